"""What an architecture's knobs offer a layer."""

from __future__ import annotations

from paredown.spaces.knobs import Architecture, Knob


def test_rank_fractions_are_found_by_layer_tied_or_not(mapped) -> None:
    knobs = (
        Knob(name="r", kind="rank_fraction", targets=("fc1", "fc2"), domain=(1.0, 0.5)),
        Knob(name="s", kind="rank_fraction", targets=("conv1",), domain=(1.0, 0.25)),
        Knob(name="b", kind="weight_bits", targets=("fc3",), domain=(8, 4)),
    )
    found = Architecture(name="", model_map=mapped("lenet"), knobs=knobs).rank_fractions
    assert found == {"fc1": (1.0, 0.5), "fc2": (1.0, 0.5), "conv1": (1.0, 0.25)}
