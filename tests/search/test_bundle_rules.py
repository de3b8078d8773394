"""The rules a bundle must keep, on numbers made up by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binom

from paredown.hardware_models.measure import Measured, MeasuredRatio
from paredown.search.bundle_rules import (
    Findings,
    at_least,
    check_agreement,
    check_metric,
    check_ratio,
)


@pytest.mark.parametrize(
    ("name", "simulated", "value", "is_found"),
    [
        ("accuracy", 0.9, 0.9029, False),
        ("accuracy", 0.9, 0.9031, True),
        ("mse", 20.0, 20.05, False),
        ("mse", 20.0, 20.07, True),
        ("perplexity", 20.0, float("nan"), True),
    ],
)
def test_a_metric_may_be_off_by_a_third_of_a_point(
    name: str, simulated: float, value: float, is_found: bool
) -> None:
    found = Findings(folder=Path(), card={}, predicted={})

    check_metric(name, value, simulated, found)

    assert [mismatch.split(":")[0] for mismatch in found.mismatches] == ["metric"] * is_found


def rules_broken(found: Findings) -> list[str]:
    return [mismatch.split(":")[0] for mismatch in found.mismatches]


@pytest.mark.parametrize("trials", [1, 40, 445, 10_000])
@pytest.mark.parametrize("probability", [0.005, 0.3])
def test_the_upper_tail_is_scipys(trials: int, probability: float) -> None:
    for count in {0, 1, trials // 200, trials // 3, trials}:
        expected = binom.sf(count - 1, trials, probability)
        assert at_least(count, trials, probability) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rows", [64, 445])
def test_models_that_agree_enough_fail_in_one_of_a_thousand_and_worse_ones_often(
    rows: int,
) -> None:
    def fails(agreement: float) -> float:
        """Probability, from every number of rows that may differ, that the rule is broken."""
        total = 0.0
        for differing in range(rows + 1):
            found = Findings(folder=Path(), card={}, predicted={})
            check_agreement(1 - differing / rows, rows, found)
            if rules_broken(found):
                total += float(binom.pmf(differing, rows, 1 - agreement))
        return total

    assert fails(0.995) < 1e-3
    assert fails(0.9) > 0.6


@pytest.mark.parametrize(
    ("low", "ratio", "high", "is_found"),
    [
        (0.40, 0.50, 0.60, False),  # inside
        (0.28, 0.29, 0.31, False),  # the mean outside, a session inside
        (0.69, 0.75, 0.80, False),
        (0.20, 0.80, 0.90, False),  # spans the interval
        (0.26, 0.28, 0.29, True),
        (0.71, 0.72, 0.90, True),
    ],
)
def test_a_latency_is_wrong_where_every_session_is_outside(
    low: float, ratio: float, high: float, is_found: bool
) -> None:
    predicted = {"latency_ratio_low": 0.3, "latency_ratio_high": 0.7}
    found = Findings(folder=Path(), card={}, predicted=predicted)
    one = Measured(mean_s=1.0, min_s=1.0, max_s=1.0, instances=5)

    check_ratio(MeasuredRatio(ratio=ratio, low=low, high=high, candidate=one, baseline=one), found)

    assert rules_broken(found) == ["latency"] * is_found
    assert found.measured["latency_ratio_high"] == high
