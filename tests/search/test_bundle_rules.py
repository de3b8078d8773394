"""The rules a bundle must keep, on numbers made up by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from paredown.search.bundle_rules import Findings, check_metric


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
