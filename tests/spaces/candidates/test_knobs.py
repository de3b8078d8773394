"""What an architecture's knobs offer a layer."""

from __future__ import annotations

import pytest

from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.knobs import Architecture, Knob


def channel(*shares):
    return tuple((share, "channel", None) for share in shares)


def test_ranks_are_found_by_layer_tied_or_not(mapped) -> None:
    knobs = (
        Knob(name="r", kind="rank_fraction", targets=("fc1", "fc2"), domain=channel(1.0, 0.5)),
        Knob(name="s", kind="rank_fraction", targets=("conv1",), domain=channel(1.0, 0.25)),
        Knob(name="b", kind="weight_bits", targets=("fc3",), domain=(8, 4)),
    )
    found = Architecture(name="", model_map=mapped("lenet"), knobs=knobs).ranks
    assert found == {
        "fc1": channel(1.0, 0.5),
        "fc2": channel(1.0, 0.5),
        "conv1": channel(1.0, 0.25),
    }


@pytest.mark.parametrize(
    ("kind", "value", "fields"),
    [
        ("sparsity", (0.5, "2:4"), {"sparsity": 0.5, "pattern": "2:4"}),
        (
            "rank_fraction",
            (0.5, "tucker", 0.25),
            {"rank_fraction": 0.5, "decomposition": "tucker", "written_fraction": 0.25},
        ),
        ("weight_bits", 4, {"weight_bits": 4}),
    ],
)
def test_a_value_is_set_in_a_choice_and_read_off_it(kind, value, fields) -> None:
    knob = Knob(name="k", kind=kind, targets=("fc1",), domain=(value,))
    assert knob.settings(value) == fields
    assert knob.value_of(LayerChoice(**fields)) == value
