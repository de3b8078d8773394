"""Damage of a candidate's decisions as the layers' statistics predict it (K-FAC).

Right in rank within a kind of decision and wrong in size: `pareto.surrogate` learns the factors.
"""

from __future__ import annotations

from collections.abc import Mapping

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.predicted_damage import DamagePredictor
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.structure.model_map import Block

_DYNAMIC = 0.3
"""Harm of 8-bit values whose range is found in every run, as a share of that of static ranges."""

Terms = Mapping[str, float]
"""Damage in nats by decision, as "kind:architecture/target"; activations as shares of all segments."""


class DamageTerms:
    """Reads candidates' terms, each decision's damage predicted once; no layer is solved for it."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = databases
        self._predictors = {name: DamagePredictor(each) for name, each in databases.items()}
        self._layers: dict[tuple[str, str, LayerChoice], float] = {}
        self._widths: dict[tuple[str, str], list[float]] = {}
        self._drops: dict[tuple[str, str], float] = {}

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
        key = (architecture, name, choice)
        if key not in self._layers:
            layer = self._databases[architecture].model_map.layer_by_name[name]
            self._layers[key] = self._predictors[architecture].layer(layer, choice)
        return self._layers[key]

    def width(self, architecture: str, group: str, width: int) -> float:
        """Damage of a narrower group, counted where its channels are missed."""
        key = (architecture, group)
        if key not in self._widths:
            self._widths[key] = self._predictors[architecture].widths(group).tolist()
        return self._widths[key][width]

    def drop(self, architecture: str, block: Block) -> float:
        """Damage of a skipped block, as if its last layer gave only its mean."""
        key = (architecture, block.name)
        if key not in self._drops:
            model_map = self._databases[architecture].model_map
            last = max(block.layers, key=[layer.name for layer in model_map.layers].index)
            layer = model_map.layer_by_name[last]
            self._drops[key] = self._predictors[architecture].silenced(layer)
        return self._drops[key]
