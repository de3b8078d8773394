"""The latency of a bundle against its interval, on numbers made up by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from paredown.hardware_models.timing.measure import Measured, MeasuredRatio
from paredown.search.bundles import rules as bundle_rules
from paredown.search.bundles.card import Card
from paredown.search.bundles.rules import (
    Findings,
    Patience,
    check_latency,
    check_ratio,
)


def warned_of(found: Findings) -> list[str]:
    return [warning.split(":")[0] for warning in found.warnings]


def findings(card: Card) -> Findings:
    return Findings(folder=Path(), card=card, predicted=card.predicted.figures)


@pytest.mark.parametrize(
    ("low", "ratio", "high", "is_found"),
    [
        (0.40, 0.50, 0.60, False),
        (0.20, 0.50, 0.90, False),  # sessions scatter beyond the interval, the mean is inside
        (0.28, 0.29, 0.31, True),  # one session inside does not save the mean
        (0.69, 0.75, 0.80, True),
        (0.26, 0.28, 0.29, True),
    ],
)
def test_a_latency_is_warned_of_where_its_mean_is_outside_the_interval(
    low: float, ratio: float, high: float, is_found: bool, made_up_card: Card
) -> None:
    found = findings(made_up_card)
    one = Measured(mean_s=1.0, min_s=1.0, max_s=1.0, instances=5)

    check_ratio(MeasuredRatio(ratio=ratio, low=low, high=high, candidate=one, baseline=one), found)

    assert found.mismatches == []
    assert warned_of(found) == ["latency"] * is_found
    assert all(f"{ratio:.3f} of the uncompressed" in warning for warning in found.warnings)
    assert found.measured["latency_ratio_high"] == high


@pytest.mark.parametrize(
    ("baseline_s", "ratio", "is_reported"),
    [(1.5, 0.8, True), (0.5, 0.2, True), (1.1, 0.8, False), (0.9, 0.2, False)],
)
def test_a_missed_latency_is_reported_with_a_machine_that_is_not_as_it_was(
    baseline_s: float, ratio: float, is_reported: bool, made_up_card: Card
) -> None:
    found = findings(made_up_card)
    one = Measured(mean_s=baseline_s, min_s=baseline_s, max_s=baseline_s, instances=5)

    measured = MeasuredRatio(ratio=ratio, low=ratio, high=ratio, candidate=one, baseline=one)
    check_ratio(measured, found)

    assert warned_of(found) == ["latency"]
    assert ("verify again" in found.warnings[0]) == is_reported


@pytest.mark.parametrize(
    ("is_timed", "left_s", "baselines_s", "measured_times"),
    [
        (True, 30.0, [1.5, 1.4, 1.05, 9.0], 3),  # until the machine is as it was
        (True, 15.0, [1.5, 1.4, 1.3, 1.05], 3),  # two waits of ten seconds each are enough
        (True, 0.0, [1.5, 1.4, 1.05], 1),  # no patience left
        (False, 30.0, [1.5, 1.4, 1.05], 1),  # a preset knows no machine
        (True, 30.0, [0.95, 1.5], 1),
    ],
)
def test_a_latency_is_measured_again_until_the_machine_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
    is_timed: bool,
    left_s: float,
    baselines_s: list[float],
    measured_times: int,
    made_up_card: Card,
) -> None:
    waiting = list(baselines_s)

    def measured(*_: object, **__: object) -> MeasuredRatio:
        one = Measured(mean_s=waiting.pop(0), min_s=1.0, max_s=1.0, instances=5)
        return MeasuredRatio(ratio=0.5, low=0.5, high=0.5, candidate=one, baseline=one)

    monkeypatch.setattr(bundle_rules, "measure_ratio", measured)
    monkeypatch.setattr(bundle_rules, "fingerprint", lambda _: "here")
    passed_s = itertools.count(0.0, 10.0)
    monkeypatch.setattr(
        bundle_rules,
        "time",
        SimpleNamespace(monotonic=lambda: next(passed_s), sleep=lambda _: None),
    )
    hardware = made_up_card.hardware.model_copy(update={"is_timed": is_timed})
    found = findings(made_up_card.model_copy(update={"hardware": hardware}))

    check_latency(found, Patience(left_s))

    assert len(baselines_s) - len(waiting) == measured_times
    assert found.measured["uncompressed_latency_s"] == baselines_s[measured_times - 1]
    assert found.mismatches == found.warnings == []
