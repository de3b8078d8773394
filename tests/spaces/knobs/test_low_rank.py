"""Ranks as values of a knob."""

from __future__ import annotations

from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.knobs.low_rank import RankKnob


def test_a_rank_replaces_the_whole_of_the_rank_before() -> None:
    knob = RankKnob(name="r", targets=("a",), domain=(Rank(), Rank(0.5, "spatial")))
    before = LayerChoice(weight_bits=8, rank=Rank(0.25, "tucker", 0.5))
    after = knob.changed(before, Rank(0.5, "spatial"))
    assert after == LayerChoice(weight_bits=8, rank=Rank(0.5, "spatial"))
    assert knob.domain_text == "whole, 50% spatial"
