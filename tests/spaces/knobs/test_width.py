"""Channels kept, as values of a knob."""

from __future__ import annotations

from paredown.spaces.candidates.candidate import Setting
from paredown.spaces.knobs.width import WidthKnob


def test_a_whole_group_has_no_entry() -> None:
    knob = WidthKnob(name="w", targets=("g", "h"), domain=(16, 8), channels=16)
    setting = Setting()
    knob.apply(setting, 8)
    assert setting.widths == {"g": 8, "h": 8}
    knob.apply(setting, 16)
    assert setting.widths == {}


def test_readers_of_the_channels_are_touched_too(mapped) -> None:
    model_map = mapped("lenet")
    group = model_map.groups[0]
    knob = WidthKnob(name="w", targets=(group.name,), domain=(4,), channels=group.channels)
    assert knob.layers_of(model_map, group.name) == set(group.producers)
    touched = {n for s in model_map.segments if knob.touches(model_map, s) for n in s.layers}
    assert touched >= {*group.producers, *group.consumers}
