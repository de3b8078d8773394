"""What a card says of latency: a ratio, in which the machine's speed cancels."""

from __future__ import annotations

import pytest

from paredown.hardware_models.latency import Estimate
from paredown.search.exporting import latency_ratio


def test_the_machines_unknown_speed_cancels_in_a_ratio() -> None:
    def estimate(value_s: float, error: float, scale: float) -> Estimate:
        return Estimate(
            value_s=value_s,
            low_s=value_s / (1 + error) / scale,
            high_s=value_s * (1 + error) * scale,
            source="made up",
            held_out_mape=None,
        )

    ratio, low, high = latency_ratio(estimate(1.0, 0.2, 3.0), estimate(2.0, 0.0, 3.0), 3.0)

    assert ratio == pytest.approx(0.5)
    assert (low, high) == (pytest.approx(0.5 / 1.2), pytest.approx(0.5 * 1.2))
