"""The network as a knob that all architectures share."""

from __future__ import annotations

from paredown.spaces.knobs.architecture_choice import ARCHITECTURE, ArchitectureKnob


def test_the_name_of_its_parameter_is_its_label(mapped) -> None:
    knob = ArchitectureKnob(name=ARCHITECTURE, targets=(ARCHITECTURE,), domain=("one", "two"))
    assert knob.label == "architecture"
    assert knob.layers_of(mapped("lenet"), ARCHITECTURE) == {
        layer.name for layer in mapped("lenet").layers
    }
