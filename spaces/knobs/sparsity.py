"""The zeros of a layer's weights."""

from __future__ import annotations

from dataclasses import replace

from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs.knob import LayerKnob


class SparsityKnob(LayerKnob[Zeros]):
    """How many weights are zero, and how they lie."""

    kind = "sparsity"
    title = "zeros"

    def changed(self, choice: LayerChoice, value: Zeros) -> LayerChoice:
        """`choice` with these zeros."""
        return replace(choice, zeros=value)

    def value_of(self, choice: LayerChoice) -> Zeros:
        """The zeros of a choice."""
        return choice.zeros

    def text(self, value: Zeros) -> str:
        """Share and pattern."""
        return value.text
