"""Groups of inputs as values of a knob."""

from __future__ import annotations

from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.knobs.scale_group import GroupSizeKnob


def test_a_group_size_is_a_count_and_is_set_beside_the_bits() -> None:
    knob = GroupSizeKnob(name="g", targets=("a",), domain=(32, 0))
    assert knob.plain(32) == 32
    changed = knob.changed(LayerChoice(weight_bits=4), 32)
    assert changed == LayerChoice(weight_bits=4, group_size=32)
