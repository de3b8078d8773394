"""Why these models: what decisions bought and cost, which mattered, and how neighbours differ."""

from __future__ import annotations

from collections.abc import Sequence

from paredown.search.config.qualities import quality_of
from paredown.search.proposing.explaining.explanation import (
    MEANING,
    SHARES,
    SHOWN,
    Explanation,
    Importance,
    Lost,
    Member,
    Step,
    Worth,
)
from paredown.search.report.pages import table
from paredown.search.study.display import show, title_of
from paredown.search.study.evaluation import Goal
from paredown.spaces.system.foreign_text import as_html

_MOST_CHANGES = 6
"""Changes named between two models."""
_BAR_PX = 90
"""Width of a bar that stands for a share of 100 %."""
_TRAINED = (
    "The models of this front were trained afterwards; what training gives back of the quality that was "
    "lost is not in these predictions."
)
_STEPS = (
    "What each model decides otherwise than the one before it, in the order of the first goal, and what "
    "that changes in every goal as scored and priced by the search."
)


def why_section(explanation: Explanation | None) -> str:
    """Tables of importance, of each model and of neighbours; "" without an explanation."""
    if explanation is None or not explanation.members:
        return ""
    learned = f"Predictions were learned from {explanation.evaluations} evaluations."
    caption = " ".join([MEANING, learned, *([_TRAINED] if explanation.is_trained else [])])
    goals = explanation.goals
    models = "".join(_model(member, goals) for member in explanation.members)
    return (
        f'<h2>Why these models</h2><p class="caption">{as_html(caption)}</p>'
        f"{_importance(explanation)}<h3>Model by model</h3>{models}{_neighbours(explanation)}"
    )


def _importance(explanation: Explanation) -> str:
    goals = explanation.goals
    head = ["decisions", *(_share_title(goal) for goal in goals)]
    parts = [_shares(each, goals) for each in explanation.parts]
    single = [_shares(each, goals) for each in explanation.decisions]
    more = ""
    if single:
        count = f"The {min(len(single), SHOWN)} most important decisions of {len(single)}"
        more = _folded(count, table(head, single[:SHOWN]))
    return (
        f'<h3>What mattered</h3><p class="caption">{as_html(SHARES)}</p>{table(head, parts)}{more}'
    )


def _share_title(goal: Goal) -> str:
    return f"{title_of(goal.metric)} {'saved' if goal.is_cost else 'lost'}"


def _shares(importance: Importance, goals: Sequence[Goal]) -> list[str]:
    cells = [f"<b>{as_html(importance.what)}</b>"]
    for goal in goals:
        share = importance.share[goal.metric]
        if share is None:
            cells.append("–")
            continue
        width_px = round(_BAR_PX * min(1.0, max(0.0, share)))
        factor = f" {importance.growth[goal.metric]:.2f}×" if goal.is_cost else ""
        cells.append(
            f'<span class="number"><span class="bar" style="width:{width_px}px"></span>{share:.0%}'
            f'<span class="quiet">{factor}</span></span>'
        )
    return cells


def _model(member: Member, goals: Sequence[Goal]) -> str:
    if not member.decisions:
        return f"<p><b>{as_html(member.name)}</b>: nothing is decided otherwise than in the network.</p>"
    head = ["decision", "chosen", *(_worth_title(goal) for goal in goals)]
    worths = list(member.decisions[:SHOWN])
    rows = [_worth(worth, goals) for worth in worths]
    if member.rest is not None:
        rows.append(_worth(member.rest, goals))
    rows.append(_worth(member.total, goals))
    first = ", ".join(worth.what for worth in worths[:2])
    title = f"{member.name}: {len(member.decisions)} decisions, above all {first}"
    return _folded(title, table(head, rows, faint=[len(rows) - 1]))


def _worth_title(goal: Goal) -> str:
    if goal.is_cost:
        return f"{title_of(goal.metric)} bought"
    unit = " (points)" if quality_of(goal.metric).in_percent else ""
    return f"{title_of(goal.metric)} lost, predicted{unit}"


def _worth(worth: Worth, goals: Sequence[Goal]) -> list[str]:
    cells = [f"<b>{as_html(worth.what)}</b>", as_html(worth.choice)]
    for goal in goals:
        cells.append(f'<span class="number">{_figure(worth, goal)}</span>')
    return cells


def _figure(worth: Worth, goal: Goal) -> str:
    metric = goal.metric
    if not goal.is_cost:
        return _lost_text(metric, worth.lost[metric]) if metric in worth.lost else "–"
    if metric not in worth.bought:
        return "–"
    if not worth.bought[metric]:
        return "0"
    factor = worth.growth.get(metric)
    quiet = "" if factor is None else f' <span class="quiet">{factor:.2f}×</span>'
    return f"{as_html(show(metric, worth.bought[metric]))}{quiet}"


def _lost_text(metric: str, lost: Lost) -> str:
    """In points where the quality is in per cent."""
    if quality_of(metric).in_percent:
        return f'{100 * lost.mean:+.2f} <span class="quiet">± {100 * lost.deviation:.2f}</span>'
    return f'{lost.mean:+.3g} <span class="quiet">± {lost.deviation:.2g}</span>'


def _neighbours(explanation: Explanation) -> str:
    if not explanation.steps:
        return ""
    goals = explanation.goals
    head = ["from", "to", "decided otherwise", *(title_of(goal.metric) for goal in goals)]
    rows = [_step(step, goals) for step in explanation.steps]
    inside = f'<p class="caption">{as_html(_STEPS)}</p>{table(head, rows)}'
    return f"<h3>From one model to the next</h3>{_folded(f'{len(rows)} steps', inside)}"


def _step(step: Step, goals: Sequence[Goal]) -> list[str]:
    changes = [as_html(change) for change in step.changes[:_MOST_CHANGES]]
    left = len(step.changes) - len(changes)
    if left:
        changes.append(f"and {left} more")
    cells = [f"<b>{as_html(name)}</b>" for name in (step.first, step.second)]
    cells.append(f'<span class="quiet wide">{"<br>".join(changes) or "nothing"}</span>')
    for goal in goals:
        cells.append(
            f'<span class="number">{as_html(_difference(goal, *step.values[goal.metric]))}</span>'
        )
    return cells


def _difference(goal: Goal, before: float, after: float) -> str:
    """A cost as a share of what it was, a quality as a difference."""
    if goal.is_cost:
        return f"{after / before - 1:+.1%}" if before else show(goal.metric, after - before)
    if quality_of(goal.metric).in_percent:
        return f"{100 * (after - before):+.2f}"
    return f"{after - before:+.3g}"


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{as_html(title)}</summary>{inside}</details>"
