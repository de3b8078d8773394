"""A space of paredown as the sampler sees it: integer codes, tabulated prices, damages by decision."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.pareto.problem import Damage, Prices
from paredown.search.proposing.pareto.tables import Array, Codes, Lookups, Tabulated
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.architecture_choice import ARCHITECTURE
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.model_map import ModelMap

Price = Callable[[Candidate], Array | None]
"""Costs (c,) of a candidate, those of the goals first; None where it has no price."""

_NEIGHBOURS = 3
"""Segments in a row that act together: what arrives, what is wanted behind, and the one between."""


@dataclass(frozen=True, kw_only=True)
class _Term:
    """A column of damages: its name among the terms of a candidate, its kind, and what it depends on."""

    name: str
    kind: str
    columns: frozenset[int]


class SpaceCodes:
    """Candidates of a space as rows of codes, in the order of `Space.dimensions`."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._sizes = tuple(space.dimensions().values())
        self.names = tuple(space.dimensions())
        self._place = {name: i for i, name in enumerate(self.names)}

    @property
    def unordered(self) -> Collection[str]:
        """Names of the parameters whose values stand in no order."""
        knobs = self._knobs.items()
        return [name for name, knob in knobs if not knob.changes_costs or name == ARCHITECTURE]

    def candidate(self, codes: Codes) -> Candidate:
        """The canonical candidate of codes (k,)."""
        return self._space.decode(dict(zip(self.names, codes.tolist(), strict=True)))

    def codes(self, candidate: Candidate) -> Codes:
        """The codes (k,) of a candidate; equal for equal candidates."""
        found = self._space.encode(candidate)
        return np.array([found[name] for name in self.names], np.int64)

    def same(self, codes: Codes) -> Codes:
        """The codes (k,) that stand for all those of an equal candidate."""
        return self.codes(self.candidate(codes))

    def prices(self, price: Price, count: int, limits: tuple[float, ...] = ()) -> Prices:
        """Prices of populations, tabulated from the `count` costs of single candidates.

        Args:
            limits: Of the last ones, which are bounded and no goals.
        """

        def _price(codes: Codes) -> Array:
            costs = price(self.candidate(codes))
            return np.full(count, np.nan) if costs is None else costs

        cliques = [c for each in self._space.architectures for c in self._cliques(each)]
        table = Tabulated(_price, self._sizes, cliques, count)
        return Prices(quick=table, exact=table.exact, limits=limits)

    def damage(self, terms: DamageTerms) -> Damage:
        """Damages of layers, widths and blocks, and shares of 8-bit segments."""
        columns = [c for each in self._space.architectures for c in self._terms(each)]

        def _entry(column: int, codes: Codes) -> float:
            return terms.of(self.candidate(codes)).get(columns[column].name, 0.0)

        table = Lookups(self._sizes, [sorted(c.columns) for c in columns], _entry)
        return Damage(
            terms=lambda codes: table(codes)[:, :, 0], kinds=tuple(c.kind for c in columns)
        )

    @property
    def _knobs(self) -> Mapping[str, Knob]:
        found: dict[str, Knob] = {}
        for architecture in self._space.architectures:
            found |= self._space.parameters(architecture)
        return {name: found[name] for name in self.names}

    def _reaching(self, architecture: Architecture, layers: Collection[str]) -> frozenset[int]:
        """The choices that change something in these layers, that of the architecture among them."""
        parameters = self._space.parameters(architecture)
        return frozenset(
            self._place[name]
            for name, knob in parameters.items()
            if name in self._place
            and (name == ARCHITECTURE or _layers(architecture.model_map, knob) & set(layers))
        )

    def _cliques(self, architecture: Architecture) -> list[frozenset[int]]:
        """What acts together: on a layer, and on the precision of neighbouring segments."""
        model_map = architecture.model_map
        found = [self._reaching(architecture, [layer.name]) for layer in model_map.layers]
        parameters = self._space.parameters(architecture)
        for i in range(len(model_map.segments)):
            near = model_map.segments[i : i + _NEIGHBOURS]
            found.append(
                frozenset(
                    self._place[name]
                    for name, knob in parameters.items()
                    if name in self._place
                    and (
                        name == ARCHITECTURE
                        or (
                            knob.part in ("segments", "blocks")
                            and any(knob.touches(model_map, segment) for segment in near)
                        )
                    )
                )
            )
        return found

    def _terms(self, architecture: Architecture) -> list[_Term]:
        name, model_map = architecture.name, architecture.model_map
        layers = {f"layer:{name}/{x.name}": (x.name,) for x in model_map.layers}
        groups = {f"width:{name}/{g.name}": g.producers for g in model_map.groups}
        blocks = {f"drop:{name}/{b.name}": b.layers for b in model_map.blocks}
        segments = {f"activations:{name}/{s.name}": s.layers for s in model_map.segments}
        found = [
            _Term(
                name=term, kind=term.split(":")[0], columns=self._reaching(architecture, reached)
            )
            for term, reached in (layers | groups | blocks | segments).items()
        ]
        if name != self._space.architectures[0].name:
            own = frozenset({self._place[ARCHITECTURE]})
            found.append(_Term(name=f"architecture:{name}", kind="architecture", columns=own))
        return found


def _layers(model_map: ModelMap, knob: Knob) -> set[str]:
    """The layers whose work or weights the knob changes: of channels, those that read them too."""
    weights = {layer.weight: layer.name for layer in model_map.layers}
    changed = {weights[name] for name in knob.tensors_of(model_map) if name in weights}
    inside = {name for target in knob.targets for name in knob.layers_of(model_map, target)}
    return changed | inside
