"""What training made of the leading candidates: their losses on the way, and quality before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from scipy.stats import spearmanr

from paredown.search.proposing.outlook import Forecast, forecasts, pairs_of
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

_ROWS = "Without training a model is scored on the first rows of the search split alone."


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
    """Qualities on the way, what was expected of them, and how well it was foretold."""
    rungs = sorted({e.rung.number: e.rung for c in courses for e in c.after}.items())
    steps = [f"{rung.recipe.steps:,} steps" for _, rung in rungs]
    head = ["model", "goal", "not trained", "expected (80 %)", *steps]
    foretold = _foretold(courses, picture)
    rows = []
    for course in courses:
        by_rung = {e.rung.number: e for e in course.after}
        for each in foretold:
            metric = each.goal.metric
            values = [by_rung.get(number) for number, _ in rungs]
            shown = [show(metric, e.metrics[metric]) if e else "" for e in values]
            before = show(metric, course.before.metrics[metric])
            expected = each.expected(course.after[0])
            cells = [name_of(course.before), title_of(metric), before, expected, *shown]
            rows.append([as_html(cell) for cell in cells])
    caption = " ".join([_ROWS, *(each.text for each in foretold)])
    return f'{table(head, rows)}<p class="caption">{as_html(caption)}</p>'


@dataclass(frozen=True)
class _Foretold:
    """How well one quality of all `models` was foretold.

    `rank` is the correlation of the orders before and after training, None where scores are all the same;
    `forecasts` has by key what was expected after the first training, by what was trained before.
    """

    goal: Goal
    models: int
    rank: float | None
    forecasts: Mapping[str, Forecast]

    @property
    def held(self) -> int:
        """How many outcomes lie within the 80 % interval."""
        return sum(forecast.holds for forecast in self.forecasts.values())

    @property
    def error(self) -> float:
        """Mean size of the errors; there must be a forecast."""
        return float(np.mean([abs(forecast.error) for forecast in self.forecasts.values()]))

    def expected(self, trained: Evaluation) -> str:
        """The value that was expected of a model, and between which; counted from what it became."""
        forecast = self.forecasts.get(trained.key)
        if forecast is None:
            return ""
        metric, sign = self.goal.metric, -1 if self.goal.direction == "maximize" else 1

        def _value(lost: float) -> float:
            return trained.metrics[metric] + sign * (lost - forecast.became)

        low, high = sorted([_value(forecast.low), _value(forecast.high)])
        ends = f"{show(metric, low)} to {show(metric, high)}"
        return f"{show(metric, _value(forecast.expected))} ({ends})"

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by names for MLflow."""
        found = {}
        if self.rank is not None:
            found[f"recovery/{self.goal.metric}_rank_correlation"] = self.rank
        if self.forecasts:
            found[f"recovery/{self.goal.metric}_within_80"] = self.held / len(self.forecasts)
            found[f"recovery/{self.goal.metric}_mean_error"] = self.error
        return found

    @property
    def text(self) -> str:
        """The figures in sentences."""
        said, name = [], title_of(self.goal.metric)
        if self.rank is not None:
            said.append(
                f"Rank correlation of {name} before and after training: {self.rank:.2f} over "
                f"{self.models} models."
            )
        if self.forecasts:
            error = show(self.goal.metric, self.error).replace(" %", " points")
            said.append(
                f"After their first training {self.held} of {len(self.forecasts)} models lie within the "
                f"80 % interval of {name} that was expected by those trained before; the mean error is "
                f"{error}."
            )
        return " ".join(said)


def recovery_metrics(picture: Picture) -> dict[str, float]:
    """How well training was foretold, by names for MLflow: for each quality the rank correlation of
    scores before and after it, the share within the 80 % interval, and the mean error.
    """
    courses = _courses(picture.evaluations)
    return {name: v for each in _foretold(courses, picture) for name, v in each.metrics.items()}


def _foretold(courses: Sequence[_Course], picture: Picture) -> list[_Foretold]:
    if not courses:
        return []
    made = forecasts(picture.outlook, pairs_of(picture.evaluations, picture.goals))
    return [
        _Foretold(
            goal=goal,
            models=len(courses),
            rank=_rank(goal, courses),
            forecasts={forecast.key: forecast for forecast in made.get(goal.metric, ())},
        )
        for goal in picture.goals
        if not goal.is_cost
    ]


def _rank(goal: Goal, courses: Sequence[_Course]) -> float | None:
    before = [course.before.metrics[goal.metric] for course in courses]
    after = [course.after[-1].metrics[goal.metric] for course in courses]
    if len(set(before)) < 2 or len(set(after)) < 2:
        return None
    return float(spearmanr(before, after).statistic)
