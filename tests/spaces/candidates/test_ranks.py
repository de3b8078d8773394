"""Shares of ranks: their mean, and how they read."""

from __future__ import annotations

import pytest

from paredown.spaces.candidates.ranks import WHOLE, Rank


@pytest.mark.parametrize(
    ("rank", "mean", "text"),
    [
        (WHOLE, 1.0, "whole"),
        (Rank(0.5), 0.5, "50% channel"),
        (Rank(0.25, "tucker"), 0.25, "25% tucker"),
        (Rank(0.25, "tucker", 0.5), 0.375, "25% × 50% tucker"),
    ],
)
def test_a_rank_has_a_mean_share_and_a_text(rank, mean, text) -> None:
    assert (rank.mean_share, rank.text) == (mean, text)
