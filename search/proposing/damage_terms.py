"""Damage of a candidate's decisions as the layers' statistics predict it (K-FAC).

Right in rank within a kind of decision and wrong in size: `pareto.surrogate` learns the factors.
"""

from __future__ import annotations

from collections.abc import Mapping

from paredown.compressors.layers.database import Database
from paredown.compressors.matrix.algebra import centred_gram, damage, to_matrix
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.structure.model_map import Block

_DYNAMIC = 0.3
"""Harm of 8-bit values whose range is found in every run, as a share of that of static ranges."""

Terms = Mapping[str, float]
"""Damage in nats by decision, as "kind:architecture/target"; activations as shares of all segments."""


class DamageTerms:
    """Reads candidates' terms, each decision's damage computed once."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = databases
        self._damages: dict[tuple[object, ...], float] = {}

    def of(self, candidate: Candidate) -> dict[str, float]:
        """The terms of `candidate`; decisions at their identity have none."""
        name = candidate.architecture
        model_map = self._databases[name].model_map
        blocks = [b for b in model_map.blocks if b.name in candidate.dropped]
        gone = {layer for block in blocks for layer in block.layers}
        found = {f"architecture:{name}": 1.0}
        for layer, choice in candidate.layers:
            if layer not in gone and not choice.is_identity:
                found[f"layer:{name}/{layer}"] = self.layer(name, layer, choice)
        for group, width in candidate.widths:
            found[f"width:{name}/{group}"] = self.width(name, group, width)
        for block in blocks:
            found[f"drop:{name}/{block.name}"] = self.drop(name, block)
        for segment, each in candidate.segments:
            if each.activation_bits == 8:
                harm = _DYNAMIC if each.ranges == "dynamic" else 1.0
                found[f"activations:{name}/{segment}"] = harm / len(model_map.segments)
        return found

    def layer(self, architecture: str, name: str, choice: LayerChoice) -> float:
        """Damage of one layer's choice."""
        return self._once(architecture, name, choice, {})

    def width(self, architecture: str, group: str, width: int) -> float:
        """Damage of a narrower group, counted where its channels are missed."""
        model_map = self._databases[architecture].model_map
        record = next(g for g in model_map.groups if g.name == group)
        if width >= record.channels:
            return 0.0
        plain = LayerChoice()
        return sum(
            self._once(architecture, name, plain, {group: width}) for name in record.consumers
        )

    def drop(self, architecture: str, block: Block) -> float:
        """Damage of a skipped block, as if its last layer gave only its mean.

        A rough figure: far too large a change for a quadratic, right in order of size at best.
        """
        key = (architecture, block.name)
        if key not in self._damages:
            database = self._databases[architecture]
            last = max(block.layers, key=[x.name for x in database.model_map.layers].index)
            self._damages[key] = _silenced(database, last)
        return self._damages[key]

    def _once(
        self, architecture: str, name: str, choice: LayerChoice, widths: Mapping[str, int]
    ) -> float:
        key = (architecture, name, choice, tuple(widths.items()))
        if key not in self._damages:
            database = self._databases[architecture]
            layer = database.model_map.layer_by_name[name]
            self._damages[key] = max(0.0, database.damage(layer, choice, widths))
        return self._damages[key]


def _silenced(database: Database, name: str) -> float:
    """Damage of a layer whose outputs stay at their means."""
    layer = database.model_map.layer_by_name[name]
    statistics = database.statistics[name]
    assert statistics.gradient_gram is not None, "a search collects statistics with a loss"
    gram = centred_gram(statistics.gram, statistics.input_mean)
    weight = to_matrix(database.tensors[layer.weight], layer)
    return damage(-weight, gram, statistics.gradient_gram)
