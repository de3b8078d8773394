"""The width of a layer's weights."""

from __future__ import annotations

from dataclasses import replace

from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.knobs.knob import LayerKnob


class WeightBitsKnob(LayerKnob[int]):
    """How many bits a weight has; 32 leaves it a float."""

    kind = "weight_bits"
    title = "weight bits"

    def changed(self, choice: LayerChoice, value: int) -> LayerChoice:
        """`choice` with weights of `value` bits."""
        return replace(choice, weight_bits=value)

    def value_of(self, choice: LayerChoice) -> int:
        """Bits of a weight."""
        return choice.weight_bits

    def bytes_only(self, offered: Capabilities) -> tuple[int, ...]:
        """Widths that the device stores and has no kernel for."""
        return tuple(bits for bits in self.domain if bits in offered.storage_weight_bits)
