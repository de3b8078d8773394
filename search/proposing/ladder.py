"""Candidates drawn from predicted damage and exact costs: a whole front before anything is scored.

Damages nearly add up, and so do most costs. Minimising summed damage plus price times cost then decides
every knob on its own, and rising prices draw a front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, zip_longest
from typing import Any

import numpy as np

from paredown.search.proposing.prediction import DamageTerms
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.space import Architecture, Knob, canonical

_RUNGS = 64
LOWEST, HIGHEST = 1e-3, 1e1
"""Range of prices: nats of loss for all of a cost. Below, nothing is compressed; above, everything."""
_WORST = 0.8
"""Predicted increase of the loss, in nats, above which no candidate is worth a first evaluation."""

Price = Callable[[Candidate], np.ndarray | None]
"""Costs (d,) of a candidate, those of the goals in their order; None where it has no price."""
Factors = Mapping[str, float]
"""What a nat of damage costs by column of `prediction`: of a kind, and departures of targets."""

_PLAIN: Factors = {"layer": 1.0, "width": 1.0, "drop": 1.0}


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """One knob, or all of a layer's: what each option changes, its damage and its relative costs.

    `damages` (options, columns) by the columns of `prediction`, `costs` (options, d).
    """

    changes: tuple[Mapping[str, Any], ...]
    columns: tuple[str, ...]
    damages: np.ndarray
    costs: np.ndarray

    def damage(self, factors: Factors) -> np.ndarray:
        """(options,) under learned factors."""
        weights = [factors[c.split(":")[0]] + factors.get(c, 0.0) for c in self.columns]
        return self.damages @ np.maximum(weights, 0.0)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """All decisions of one architecture while its segments stay at one setting."""

    architecture: Architecture
    base: Candidate
    decisions: tuple[_Decision, ...]

    def at(self, weights: np.ndarray, factors: Factors = _PLAIN) -> tuple[Candidate, float]:
        """The candidate that minimises damage plus costs at `weights` (d,), and its damage."""
        changes: dict[str, Any] = {}
        total = 0.0
        for decision in self.decisions:
            damages = decision.damage(factors)
            chosen = int(np.argmin(damages + decision.costs @ weights))
            changes = _merge(changes, decision.changes[chosen])
            total += float(damages[chosen])
        return canonical(self.architecture, _apply(self.base, changes)), total

    def climb(self, direction: np.ndarray) -> list[Candidate]:
        """Distinct candidates at rising prices of `direction` (d,), up to a damage worth a look."""
        found: dict[str, Candidate] = {}
        for price in np.geomspace(LOWEST, HIGHEST, _RUNGS):
            candidate, damage = self.at(price * direction)
            if damage > _WORST:
                break
            found[candidate.key] = candidate
        return list(found.values())


def draw_ladders(
    architectures: Sequence[Architecture], terms: DamageTerms, price: Price
) -> list[Ladder]:
    """One ladder for each architecture and each uniform setting of its segments that has a price."""
    ladders = [
        _ladder(architecture, segments, terms, price)
        for architecture in architectures
        for segments in _segment_settings(architecture)
    ]
    return [ladder for ladder in ladders if ladder is not None]


def warm_start(ladders: Sequence[Ladder], dimensions: int, count: int) -> list[Candidate]:
    """At most `count` candidates, of each ladder in turn along each cost alone and each pair.

    Blocks stay: the predicted damage of skipping one is too rough to start from.
    """
    alone = list(np.eye(dimensions))
    pairs = [(a + b) / 2 for a, b in combinations(alone, 2)]
    runs = [_without_drops(each).climb(d) for each in ladders for d in (*alone, *pairs)]
    share = max(2, -(-count // max(1, len(runs))))
    # One of each in turn: whoever stops early has seen a bit of every direction.
    turns = zip_longest(*(_spread(run, share) for run in runs))
    unique = {c.key: c for turn in turns for c in turn if c is not None}
    return list(unique.values())[:count]


def _segment_settings(architecture: Architecture) -> list[dict[str, SegmentChoice]]:
    """Every setting of segments, by name, in all that offer it; the others stand at their least harmful.

    Mixed ones are left to mutation.
    """
    domains = {t: k.domain for k in architecture.knobs if k.kind == "segment" for t in k.targets}
    found: list[dict[str, SegmentChoice]] = []
    for choice in dict.fromkeys(c for domain in domains.values() for c in domain):
        setting = {t: choice if choice in d else d[0] for t, d in domains.items()}
        # A float32 container beside float activations saves nothing.
        saves_nothing = (choice.activation_bits, choice.container) == (32, "fast")
        if setting not in found and not saves_nothing:
            found.append(setting)
    return found or [{t: domain[0] for t, domain in domains.items()}]


def _ladder(
    architecture: Architecture,
    segments: Mapping[str, SegmentChoice],
    terms: DamageTerms,
    price: Price,
) -> Ladder | None:
    base = _base(architecture, segments)
    origin = price(base)
    if origin is None:
        return None

    def decision(options: _Options) -> _Decision:
        columns = tuple(dict.fromkeys(c for _, damages in options for c in damages))
        # The first option is the base's own, so one at least has a price.
        priced = [(*option, price(_apply(base, option[0]))) for option in options]
        kept = [(changes, damages, cost) for changes, damages, cost in priced if cost is not None]
        return _Decision(
            changes=tuple(changes for changes, _, _ in kept),
            columns=columns,
            damages=np.array([[d.get(c, 0.0) for c in columns] for _, d, _ in kept]),
            costs=np.array([(cost - origin) / origin for _, _, cost in kept]),
        )

    return Ladder(
        architecture=architecture,
        base=base,
        decisions=tuple(decision(options) for options in _options(architecture, terms)),
    )


def _base(architecture: Architecture, segments: Mapping[str, SegmentChoice]) -> Candidate:
    """The least harmful setting of every knob but the segments'."""
    layers: dict[str, dict[str, Any]] = {}
    for knob in architecture.knobs:
        if knob.kind in ("weight_bits", "rank_fraction", "method", "group_size", "sparsity"):
            for target in knob.targets:
                layers.setdefault(target, {}).update(knob.settings(knob.domain[0]))
    return Candidate.of(
        architecture=architecture.name,
        layers={name: LayerChoice(**fields) for name, fields in layers.items()},
        segments=segments,
    )


_Options = list[tuple[Mapping[str, Any], Mapping[str, float]]]
"""Changes of each option, and its damages by column."""


def _options(architecture: Architecture, terms: DamageTerms) -> list[_Options]:
    """Every knob but the segments'; a layer's own knobs are decided together."""
    found: list[_Options] = []
    by_target: dict[tuple[str, ...], list[Knob]] = {}
    name = architecture.name
    blocks = {b.name: b for b in architecture.model_map.blocks}
    for knob in architecture.knobs:
        target = knob.targets[0]
        if knob.kind == "width":
            found.append(
                [
                    (
                        {"widths": {target: w}},
                        {f"width:{name}/{target}": terms.width(name, target, w)},
                    )
                    for w in knob.domain
                ]
            )
        elif knob.kind == "drop" and True in knob.domain:
            damage = {f"drop:{name}/{target}": terms.drop(name, blocks[target])}
            found.append([({}, {}), ({"dropped": {target: True}}, damage)])
        elif knob.kind not in ("segment", "drop"):
            by_target.setdefault(knob.targets, []).append(knob)
    found += [_layer_options(name, terms, t, knobs) for t, knobs in by_target.items()]
    return found


def _layer_options(
    name: str, terms: DamageTerms, targets: tuple[str, ...], knobs: Sequence[Knob]
) -> _Options:
    settings: list[dict[str, Any]] = [{}]
    for knob in knobs:
        # Methods cost alike; the first of the domain stands for all of them.
        values = knob.domain[:1] if knob.kind == "method" else knob.domain
        settings = [{**s, **knob.settings(v)} for s in settings for v in values]
    return [
        (
            {"layers": dict.fromkeys(targets, setting)},
            {f"layer:{name}/{t}": terms.layer(name, t, LayerChoice(**setting)) for t in targets},
        )
        for setting in settings
    ]


def _without_drops(ladder: Ladder) -> Ladder:
    kept = [d for d in ladder.decisions if not any("dropped" in c for c in d.changes)]
    return replace(ladder, decisions=tuple(kept))


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {key: {**first.get(key, {}), **second.get(key, {})} for key in {*first, *second}}


def _apply(base: Candidate, changes: Mapping[str, Any]) -> Candidate:
    layers = dict(base.layers)
    for name, fields in changes.get("layers", {}).items():
        layers[name] = replace(base.layer(name), **fields)
    return Candidate.of(
        architecture=base.architecture,
        layers=layers,
        segments=dict(base.segments),
        widths={**dict(base.widths), **changes.get("widths", {})},
        dropped=(*base.dropped, *changes.get("dropped", {})),
    )


def _spread(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """`count` of them at even distances, both ends included."""
    if len(candidates) <= count:
        return list(candidates)
    positions = np.linspace(0, len(candidates) - 1, count).round().astype(int)
    return [candidates[int(p)] for p in dict.fromkeys(positions.tolist())]
