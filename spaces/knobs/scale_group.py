"""The groups of inputs that share a scale in a layer's weights."""

from __future__ import annotations

from dataclasses import replace

from paredown.spaces.candidates.candidate import GroupSize, LayerChoice
from paredown.spaces.knobs.knob import LayerKnob


class GroupSizeKnob(LayerKnob[GroupSize]):
    """How many inputs of an output share a scale; 0 is all of them."""

    kind = "group_size"
    title = "inputs per scale"

    def changed(self, choice: LayerChoice, value: GroupSize) -> LayerChoice:
        """`choice` with groups of `value` inputs."""
        return replace(choice, group_size=value)

    def value_of(self, choice: LayerChoice) -> GroupSize:
        """Inputs per scale of a choice."""
        return choice.group_size
