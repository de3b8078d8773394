"""What outputs and metrics may differ by, on tensors made up by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.search.bundles.card import Card
from paredown.search.bundles.output_rules import (
    OutputGap,
    check_agreement,
    check_metric,
    noise_effect,
)
from paredown.search.bundles.rules import Findings
from paredown.search.config.qualities import Quality
from paredown.search.tasks.metrics import Tally, metric_named
from paredown.search.tasks.user_metrics import whole_split_metric


def fresh() -> Findings:
    card = Card.model_construct()  # rules on outputs read nothing of it
    return Findings(folder=Path(), card=card, predicted={})


def rules_broken(found: Findings) -> list[str]:
    return [mismatch.split(":")[0] for mismatch in found.mismatches]


def tally_of(name: str, scores: list[float]) -> Tally:
    """A tally of a mean over samples with these scores."""
    return Tally(metric_named(name), parts=[torch.tensor(scores, dtype=torch.float64)])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rerun(rows: int, effect: float = 0.0) -> Any:
    """Noise of the outputs that moves any metric by `effect`."""
    return SimpleNamespace(split=range(rows), rows=None, effect=lambda metric: effect)


def agreement(ours: Tensor, theirs: Tensor) -> Findings:
    gap, found = OutputGap(), fresh()
    for half in range(2):  # as it comes, batch by batch
        part = slice(half * len(ours) // 2, (half + 1) * len(ours) // 2)
        gap.add((ours[part],), (theirs[part],))
    check_agreement(gap, found)
    return found


@pytest.mark.parametrize(("share", "is_found"), [(0.0, False), (0.02, False), (0.2, True)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_outputs_are_held_to_their_own_spread(
    share: float, is_found: bool, scale: float, offset: float
) -> None:
    theirs = normal(400, 10)
    ours = theirs + share * normal(400, 10, seed=1)
    found = agreement(scale * (ours + offset), scale * (theirs + offset))
    assert rules_broken(found) == ["agreement"] * is_found
    assert found.measured["output_error"] == pytest.approx(share, rel=0.05, abs=1e-6)


def test_a_network_that_gives_one_answer_may_be_off_by_a_step_of_it() -> None:
    theirs = torch.full((50, 4), 2.0)
    assert rules_broken(agreement(theirs + 2.0 / 260, theirs)) == []
    assert rules_broken(agreement(theirs + 2.0 / 100, theirs)) == ["agreement"]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_one_value_that_is_no_number_is_found_and_leaves_no_figure(wrong: float) -> None:
    theirs = normal(50, 4)
    ours = theirs.clone()
    ours[7, 2] = wrong
    found = agreement(ours, theirs)
    assert rules_broken(found) == ["agreement"]
    assert "output_error" not in found.measured


def test_scores_masked_with_infinity_agree() -> None:
    theirs = normal(50, 4)
    theirs[:, 3] = -math.inf
    assert agreement(theirs.clone(), theirs).mismatches == []


@pytest.mark.parametrize(("flipped", "is_found"), [(0, False), (2, False), (6, True)])
def test_classes_that_a_network_chooses_itself_may_differ_in_two_rows(
    flipped: int, is_found: bool
) -> None:
    theirs = torch.arange(50) % 7
    ours = theirs.clone()
    ours[:flipped] += 1
    assert rules_broken(agreement(ours, theirs)) == ["agreement"] * is_found


@pytest.mark.parametrize("rows", [20, 50, 200, 1000])
def test_two_rows_on_a_class_border_never_refuse_a_bundle(rows: int) -> None:
    found = fresh()
    ours = tally_of("accuracy", [0.0, 0.0] + [1.0] * (rows - 2))
    check_metric(ours, tally_of("accuracy", [1.0] * rows), rerun(rows), found)
    assert found.mismatches == []
    assert found.measured["test_accuracy"] == pytest.approx(1 - 2 / rows)
    assert found.predicted["test_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("rows", "flips", "effect", "is_found"),
    [
        (50, 5, 0.0, True),  # outputs are the same, so nothing explains ten points
        (50, 5, 0.02, False),  # noise of that size moves accuracy by two points
        (5000, 100, 0.001, True),
        (5000, 30, 0.001, False),
    ],
)
def test_more_flips_must_be_explained_by_the_outputs(
    rows: int, flips: int, effect: float, is_found: bool
) -> None:
    found = fresh()
    ours = tally_of("accuracy", [0.0] * flips + [1.0] * (rows - flips))
    check_metric(ours, tally_of("accuracy", [1.0] * rows), rerun(rows, effect), found)
    assert rules_broken(found) == ["metric"] * is_found


@pytest.mark.parametrize(
    ("value", "simulated", "effect", "is_found"),
    [
        (5e-19, 0.0, 4e-19, False),  # a teacher's own outputs, off by rounding alone
        (5e-19, 0.0, 1e-20, True),
        (20.05, 20.0, 0.0, False),
        (20.07, 20.0, 0.0, True),
        (20.07, 20.0, 0.02, False),
        (math.nan, 20.0, 1.0, True),
    ],
)
def test_a_metric_may_be_off_by_a_little_of_itself_or_by_what_outputs_make_of_it(
    value: float, simulated: float, effect: float, is_found: bool
) -> None:
    found = fresh()
    ours, theirs = tally_of("mse", [value]), tally_of("mse", [simulated])
    check_metric(ours, theirs, rerun(1, effect), found)
    assert rules_broken(found) == ["metric"] * is_found
    assert ("test_mse" in found.measured) == math.isfinite(value)


def batches(outputs: Tensor, targets: Tensor) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    return [((outputs[i : i + 32],), targets[i : i + 32]) for i in range(0, len(outputs), 32)]


@pytest.mark.parametrize("size", [1e-9, 0.1])
def test_noise_makes_an_error_of_nothing_its_variance(size: float) -> None:
    outputs = normal(2000, 3).double()
    effect = noise_effect(metric_named("mse"), batches(outputs, outputs), [size])
    assert effect == pytest.approx(size**2, rel=0.05)


def test_noise_flips_as_many_rows_as_its_distribution_says() -> None:
    # Two classes: noise of size s in both moves their difference by s √2, so that a margin of the
    # same is one deviation, which 15.87 % exceed.
    size, rows = 0.2, 4000
    outputs = torch.tensor([[size * math.sqrt(2), 0.0]]).repeat(rows, 1)
    targets = torch.zeros(rows, dtype=torch.int64)
    effect = noise_effect(metric_named("accuracy"), batches(outputs, targets), [size])
    assert effect == pytest.approx(0.1587, rel=0.05)


def test_noise_in_classes_puts_other_rows_in_their_place(
    count_right: Callable[[Tensor, Tensor], float],
) -> None:
    metric = whole_split_metric(Quality(name="right", direction="maximize"), count_right)
    outputs = torch.arange(4000) % 100
    effect = noise_effect(metric, batches(outputs, outputs), [0.1])
    assert effect == pytest.approx(0.1, rel=0.15)


@pytest.fixture
def count_right() -> Callable[[Tensor, Tensor], float]:
    return lambda outputs, targets: float((outputs == targets).double().mean())
