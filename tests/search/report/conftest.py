"""An invented search, as every picture takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from paredown.search.report.style import Picture
from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import front_of, hypervolume, reference_point


@pytest.fixture
def picture(
    goals: tuple[Goal, ...],
    make_evaluations: Callable[..., tuple[Evaluation, ...]],
    layer_weights: Mapping[str, int],
) -> Picture:
    """Eighty evaluations of an invented residual network, three references first."""
    evaluations = make_evaluations(80)
    worst = reference_point(goals, evaluations[0], evaluations[0])
    return Picture(
        evaluations=evaluations,
        front=front_of(evaluations, goals),
        outline=Outline(
            layer_weights=layer_weights,
            segments=("stem", "layer3.1"),
            widths={"layer2.0.conv1": 32},
            blocks={"layer1.1": frozenset({"layer1.1.conv1", "layer1.1.conv2"})},
        ),
        hypervolumes=tuple(
            hypervolume(front_of(evaluations[:n], goals), worst)
            for n in range(1, len(evaluations) + 1)
        ),
        name="resnet20",
    )
