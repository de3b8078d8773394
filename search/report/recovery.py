"""What training made of the leading candidates: their losses on the way, and quality before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from scipy.stats import spearmanr

from paredown.search.report import style
from paredown.search.report.pages import drawn, table
from paredown.search.report.plots import dress
from paredown.search.report.style import Picture
from paredown.search.study.display import name_of, show, title_of
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.spaces.system.foreign_text import as_html

_CAPTION = (
    "The leading candidates of each rung were trained towards the answers of the uncompressed network. "
    "A line is the loss of one of them on training rows that were held out, from rung to rung; the best "
    "state on these rows is what was scored and exported, so a line that rises costs nothing."
)


@dataclass(frozen=True)
class _Course:
    """One candidate: its score without training, and those after each rung of training."""

    before: Evaluation
    after: tuple[Evaluation, ...]

    def points(self) -> Iterator[tuple[int, float]]:
        """(steps since the assembled model, held-out loss) over all rungs."""
        for evaluation in self.after:
            first = evaluation.rung.recipe.steps - evaluation.curve[-1][0]
            for step, _, held_out_loss in evaluation.curve:
                yield first + step, held_out_loss


def recovery_section(picture: Picture) -> str:
    """Curves and a table of all that was trained; "" where nothing was."""
    courses = _courses(picture.evaluations)
    if not courses:
        return ""
    return (
        f'<h2>Recovery</h2><p class="caption">{as_html(_CAPTION)}</p>'
        f"{drawn(_figure(courses, picture), 0)}{_table(courses, picture)}"
    )


def _courses(evaluations: Sequence[Evaluation]) -> list[_Course]:
    trained: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.curve and not evaluation.is_failed:
            trained.setdefault(evaluation.key, []).append(evaluation)
    first = {e.key: e for e in evaluations if not (e.is_failed or e.rung.recipe.is_trained)}
    return [_Course(first[key], tuple(after)) for key, after in trained.items() if key in first]


def _figure(courses: Sequence[_Course], picture: Picture) -> go.Figure:
    figure = go.Figure()
    for course in courses:
        steps, losses = zip(*course.points(), strict=True)
        leads = course.before.key in picture.front.keys
        figure.add_scatter(
            x=steps,
            y=losses,
            mode="lines",
            line={"color": style.FRONT if leads else style.DOMINATED, "width": 2 if leads else 1},
            hovertext=as_html(name_of(course.before)),
            hoverinfo="text+x+y",
            showlegend=False,
        )
    dress(figure, height=340)
    figure.update_xaxes(title_text="steps")
    figure.update_yaxes(title_text="held-out loss", type="log")
    return figure


def _table(courses: Sequence[_Course], picture: Picture) -> str:
    """Qualities on the way, and how well the order without training foretold the order after it."""
    qualities = [goal for goal in picture.goals if not goal.is_cost]
    rungs = sorted({e.rung.number: e.rung for c in courses for e in c.after}.items())
    head = ["model", "goal", "not trained", *(f"{rung.recipe.steps:,} steps" for _, rung in rungs)]
    rows = []
    for course in courses:
        by_rung = {e.rung.number: e for e in course.after}
        for goal in qualities:
            values = [course.before, *(by_rung.get(number) for number, _ in rungs)]
            shown = [show(goal.metric, e.metrics[goal.metric]) if e else "" for e in values]
            cells = [name_of(course.before), title_of(goal.metric), *shown]
            rows.append([as_html(cell) for cell in cells])
    rows_text = "Without training a model is scored on the first rows of the search split alone."
    foretold = " ".join(_foretold(goal, courses) for goal in qualities)
    return f'{table(head, rows)}<p class="caption">{as_html(f"{rows_text} {foretold}")}</p>'


def _foretold(goal: Goal, courses: Sequence[_Course]) -> str:
    """The rank correlation of scores before and after training."""
    before = [course.before.metrics[goal.metric] for course in courses]
    after = [course.after[-1].metrics[goal.metric] for course in courses]
    if len(set(before)) < 2 or len(set(after)) < 2:
        return ""
    rank = float(spearmanr(before, after).statistic)
    return (
        f"Rank correlation of {title_of(goal.metric)} before and after training: {rank:.2f} over "
        f"{len(courses)} models."
    )
