"""The warm start: a front drawn from predicted damage and exact costs before anything is scored.

The damage of one layer's choice is predicted by K-FAC, 1/2 tr(dW A dW^T G); damages nearly add up. For a
ladder of prices lambda, minimising summed damage plus lambda times cost decides every knob on its own
and draws a whole front (DESIGN section 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, zip_longest
from typing import Any

import numpy as np

from paredown.compressors.database import Database
from paredown.search.workbench import Workbench
from paredown.spaces.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.space import Architecture, Knob, canonical

_RUNGS = 64
_LOWEST, _HIGHEST = 1e-3, 1e1
"""Range of lambda: nats of loss for all of a cost. Below, nothing is compressed; above, everything."""
_WORST = 0.8
"""Predicted increase of the loss, in nats, above which no candidate is worth an evaluation."""


@dataclass(frozen=True, kw_only=True)
class _Option:
    """One value of one decision: its predicted damage and what it changes of each cost, relative."""

    changes: Mapping[str, Any]
    damage: float
    costs: np.ndarray


def ladder(workbench: Workbench, count: int) -> list[Candidate]:
    """At most `count` candidates along the predicted front, one of each ladder in turn.

    Every uniform setting of the segments gets its own ladder, for each cost goal alone and for pairs.
    Blocks stay: what skipping one costs is not predicted.
    """
    metrics = [goal.metric for goal in workbench.config.goals if goal.is_cost]
    if not metrics:
        return []
    runs = [
        run
        for architecture in workbench.space.architectures
        for segment in _segment_settings(architecture)
        for run in _draw(workbench, architecture, segment, metrics)
    ]
    share = max(2, -(-count // max(1, len(runs))))
    # One of each ladder in turn: whoever stops early has seen a bit of every direction.
    turns = zip_longest(*(_spread(run, share) for run in runs))
    unique = {c.key: c for turn in turns for c in turn if c is not None}
    return list(unique.values())[:count]


def _segment_settings(architecture: Architecture) -> list[SegmentChoice]:
    """Settings that every segment knob allows; mixed ones are the sampler's to try."""
    knobs = [k for k in architecture.knobs if k.kind == "segment"]
    if not knobs:
        return [SegmentChoice()]
    shared = [c for c in knobs[0].domain if all(c in k.domain for k in knobs)]
    # A float32 container beside float activations saves nothing.
    return [c for c in shared if (c.activation_bits, c.container) != (32, "fast")] or shared[:1]


def _draw(
    workbench: Workbench, architecture: Architecture, segment: SegmentChoice, metrics: list[str]
) -> list[list[Candidate]]:
    """One ladder for each cost alone and for each pair of them."""
    database = workbench.databases[architecture.name]
    base = _base(architecture, segment)
    origin = _costs(workbench, base, metrics)
    decisions = [
        [
            replace(
                o, costs=(_costs(workbench, _apply(base, o.changes), metrics) - origin) / origin
            )
            for o in options
        ]
        for options in _decisions(architecture, database)
    ]
    weights = [np.eye(len(metrics))[i] for i in range(len(metrics))]
    weights += [(weights[a] + weights[b]) / 2 for a, b in combinations(range(len(metrics)), 2)]
    return [
        [canonical(architecture, _apply(base, changes)) for changes in _climb(decisions, weight)]
        for weight in weights
    ]


def _climb(decisions: Sequence[Sequence[_Option]], weight: np.ndarray) -> list[dict[str, Any]]:
    """Distinct settings of all decisions at rising prices, up to the predicted damage worth a look."""
    found: list[dict[str, Any]] = []
    for price in np.geomspace(_LOWEST, _HIGHEST, _RUNGS):
        changes: dict[str, Any] = {}
        damage = 0.0
        for options in decisions:
            chosen = min(options, key=lambda o: o.damage + price * float(o.costs @ weight))
            changes = _merge(changes, chosen.changes)
            damage += chosen.damage
        if damage > _WORST:
            break
        if changes not in found:
            found.append(changes)
    return found


def _base(architecture: Architecture, segment: SegmentChoice) -> Candidate:
    """The least harmful setting of every knob, all segments alike."""
    layers: dict[str, dict[str, Any]] = {}
    for knob in architecture.knobs:
        if knob.kind in ("weight_bits", "rank_fraction", "method", "sparsity"):
            for target in knob.targets:
                layers.setdefault(target, {}).update(_fields(knob, knob.domain[0]))
    return Candidate.of(
        architecture=architecture.name,
        layers={name: LayerChoice(**fields) for name, fields in layers.items()},
        segments={s.name: segment for s in architecture.model_map.segments},
    )


def _decisions(architecture: Architecture, database: Database) -> list[list[_Option]]:
    """Options of every knob but segments and blocks; a layer's own knobs are decided together."""
    decisions: list[list[_Option]] = []
    by_target: dict[tuple[str, ...], list[Knob]] = {}
    for knob in architecture.knobs:
        if knob.kind == "width":
            decisions.append([_width_option(database, knob, w) for w in knob.domain])
        elif knob.kind not in ("segment", "drop"):
            by_target.setdefault(knob.targets, []).append(knob)
    for targets, knobs in by_target.items():
        decisions.append(_layer_options(database, targets, knobs))
    return decisions


def _layer_options(
    database: Database, targets: tuple[str, ...], knobs: Sequence[Knob]
) -> list[_Option]:
    settings: list[dict[str, Any]] = [{}]
    for knob in knobs:
        # Solvers are alike in cost, and the first of the domain is the compensated one.
        values = knob.domain[:1] if knob.kind == "method" else knob.domain
        settings = [{**s, **_fields(knob, v)} for s in settings for v in values]
    options = []
    for setting in settings:
        layers = [database.model_map.layer_by_name[name] for name in targets]
        damage = sum(database.damage(layer, LayerChoice(**setting), {}) for layer in layers)
        changes = {"layers": dict.fromkeys(targets, setting)}
        options.append(_Option(changes=changes, damage=max(0.0, damage), costs=np.zeros(0)))
    return options


def _width_option(database: Database, knob: Knob, width: int) -> _Option:
    group = next(g for g in database.model_map.groups if g.name == knob.targets[0])
    damage = 0.0
    if width < group.channels:
        for name in group.consumers:
            layer = database.model_map.layer_by_name[name]
            damage += database.damage(layer, LayerChoice(), {group.name: width})
    changes = {"widths": {group.name: width}}
    return _Option(changes=changes, damage=max(0.0, damage), costs=np.zeros(0))


def _fields(knob: Knob, value: Any) -> dict[str, Any]:
    if knob.kind == "sparsity":
        return {"sparsity": value[0], "pattern": value[1]}
    return {knob.kind: value}


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
        dropped=base.dropped,
    )


def _costs(workbench: Workbench, candidate: Candidate, metrics: list[str]) -> np.ndarray:
    priced = workbench.price(candidate).as_metrics()
    return np.array([priced[name] for name in metrics])


def _spread(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """`count` of them at even distances, both ends included."""
    if len(candidates) <= count:
        return list(candidates)
    positions = np.linspace(0, len(candidates) - 1, count).round().astype(int)
    return [candidates[int(p)] for p in dict.fromkeys(positions.tolist())]
