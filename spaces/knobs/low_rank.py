"""The rank of a layer, and its form where it is not whole."""

from __future__ import annotations

from dataclasses import replace

from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.knobs.knob import LayerKnob


class RankKnob(LayerKnob[Rank]):
    """Which thinner operators a layer becomes, if any."""

    kind = "rank_fraction"
    title = "rank"

    def changed(self, choice: LayerChoice, value: Rank) -> LayerChoice:
        """`choice` with this rank."""
        return replace(choice, rank=value)

    def value_of(self, choice: LayerChoice) -> Rank:
        """The rank of a choice."""
        return choice.rank

    def text(self, value: Rank) -> str:
        """Shares and form."""
        return value.text
