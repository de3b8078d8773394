"""The method that finds a layer's zeros and codes."""

from __future__ import annotations

from dataclasses import replace

from paredown.spaces.candidates.candidate import LayerChoice, Method
from paredown.spaces.knobs.knob import LayerKnob


class MethodKnob(LayerKnob[Method]):
    """Which solver is asked; all of them give a model of the same size and speed."""

    kind = "method"
    title = "method"
    changes_costs = False

    def changed(self, choice: LayerChoice, value: Method) -> LayerChoice:
        """`choice` with this method."""
        return replace(choice, method=value)

    def value_of(self, choice: LayerChoice) -> Method:
        """The method of a choice."""
        return choice.method
