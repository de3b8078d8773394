"""Measured values in a picture: rings where they lie, tied to their predicted points."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from paredown.search.report import style
from paredown.search.report.measured_trace import measured_traces
from paredown.search.report.style import Picture
from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.front_measured import MeasuredFront
from paredown.search.study.pareto import front_of


def test_rings_lie_at_what_was_measured_in_the_units_of_the_axes(
    goals: tuple[Goal, ...],
    make_evaluations: Callable[[int], tuple[Evaluation, ...]],
    layer_weights: Mapping[str, int],
) -> None:
    evaluations = make_evaluations(30)
    front = front_of(evaluations, goals)
    first, second, *_ = front.members
    values = {
        member.key: {name: 0.9 * member.metrics[name] for name in ("accuracy", "latency_s")}
        for member in (first, second)
    }
    picture = Picture(
        evaluations=evaluations,
        front=front,
        outline=Outline(layer_weights=layer_weights, widths={}),
        measured=MeasuredFront(values=values, members=frozenset({second.key})),
    )
    across, up = (style.axis_of(picture, goal) for goal in (goals[1], goals[0]))
    ties, rings = measured_traces(picture, across, up)
    expected = [0.9 * value for value in across.values([first, second])]
    assert list(rings.x) == pytest.approx(expected)
    assert list(rings.marker.line.width) == [1, 3]
    assert list(ties.x)[:2] == pytest.approx([*across.values([first]), expected[0]])
    assert ties.x[2] is None
    assert "as measured" in rings.hovertext[0]
    assert "on the front of measured values" in rings.hovertext[1]


def test_nothing_is_drawn_where_nothing_was_measured(
    goals: tuple[Goal, ...],
    make_evaluations: Callable[[int], tuple[Evaluation, ...]],
    layer_weights: Mapping[str, int],
) -> None:
    evaluations = make_evaluations(30)
    front = front_of(evaluations, goals)
    outline = Outline(layer_weights=layer_weights, widths={})
    picture = Picture(evaluations=evaluations, front=front, outline=outline)
    axes = [style.axis_of(picture, goal) for goal in goals[:2]]
    assert measured_traces(picture, *axes) == []
