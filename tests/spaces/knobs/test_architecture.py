"""What an architecture's knobs offer a layer."""

from __future__ import annotations

from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob


def test_ranks_are_found_by_layer_tied_or_not(mapped) -> None:
    knobs = (
        RankKnob(name="r", targets=("fc1", "fc2"), domain=(Rank(), Rank(0.5))),
        RankKnob(name="s", targets=("conv1",), domain=(Rank(), Rank(0.25))),
        WeightBitsKnob(name="b", targets=("fc3",), domain=(8, 4)),
    )
    architecture = Architecture(name="", model_map=mapped("lenet"), knobs=knobs)
    assert architecture.ranks == {
        "fc1": (Rank(), Rank(0.5)),
        "fc2": (Rank(), Rank(0.5)),
        "conv1": (Rank(), Rank(0.25)),
    }
    assert architecture.knobs_of(WeightBitsKnob) == knobs[2:]
