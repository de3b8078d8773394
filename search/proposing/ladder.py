"""Candidates drawn from predicted damage and exact costs: a whole front before anything is scored.

Damages nearly add up, and so do most costs. Minimising summed damage plus price times cost then decides
every knob on its own, and rising prices draw a front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product, zip_longest

import numpy as np

from paredown.search.proposing.prediction import DamageTerms, is_damage
from paredown.spaces.candidates.candidate import Candidate, SegmentChoice, Setting
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

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


Option = tuple[tuple[Knob, int], ...]
"""Knobs, each with the position of a value in its domain."""


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """The knobs of the same targets: what each option sets, its damage and its relative costs.

    `damages` (options, columns) by the columns of `prediction`, `costs` (options, d).
    """

    options: tuple[Option, ...]
    columns: tuple[str, ...]
    damages: np.ndarray
    costs: np.ndarray

    @property
    def is_predictable(self) -> bool:
        """Whether the damages are near enough to begin a search with."""
        return all(knob.is_predictable for option in self.options for knob, _ in option)

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
        setting = Setting.of(self.base)
        total = 0.0
        for decision in self.decisions:
            damages = decision.damage(factors)
            chosen = int(np.argmin(damages + decision.costs @ weights))
            _apply(setting, decision.options[chosen])
            total += float(damages[chosen])
        return canonical(self.architecture, setting.candidate()), total

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
    runs = [_predictable(each).climb(d) for each in ladders for d in (*alone, *pairs)]
    share = max(2, -(-count // max(1, len(runs))))
    # One of each in turn: a search that stops early has seen a bit of every direction.
    turns = zip_longest(*(_spread(run, share) for run in runs))
    unique = {c.key: c for turn in turns for c in turn if c is not None}
    return list(unique.values())[:count]


def uniform_settings(ladders: Sequence[Ladder]) -> list[Candidate]:
    """Every ladder's base with all layers at one width, the narrowest first, of each ladder in turn.

    A layer that does not offer the width has the next wider one. They are what anybody would try first,
    with all else at its least harmful, and they show how far sums of small damages are to be believed.
    """
    runs = []
    for ladder in ladders:
        knobs = [k for k in ladder.architecture.knobs if isinstance(k, WeightBitsKnob)]
        run = []
        for bits in sorted({width for knob in knobs for width in knob.domain}):
            setting = Setting.of(ladder.base)
            for knob in knobs:
                wider = [width for width in knob.domain if width >= bits]
                knob.apply(setting, min(wider, default=max(knob.domain)))
            run.append(setting.candidate())
        runs.append(run)
    turns = zip_longest(*runs)
    unique = {c.key: c for turn in turns for c in turn if c is not None}
    return list(unique.values())


def _segment_settings(architecture: Architecture) -> list[dict[str, SegmentChoice]]:
    """Every setting of segments, by name, in all that offer it; the others stand at their least harmful.

    Mixed ones are left to mutation.
    """
    knobs = architecture.knobs_of(SegmentKnob)
    domains = {target: knob.domain for knob in knobs for target in knob.targets}
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

    def _decision(knobs: Sequence[Knob]) -> _Decision:
        plain = Candidate(architecture=architecture.name)
        options = [each for each in _options(knobs) if not _lacks_zero(_set(plain, each))]
        # The first option is the base's own, so one at least has a price.
        priced = [(option, price(_set(base, option))) for option in options]
        kept = [(option, cost) for option, cost in priced if cost is not None]
        damages = [_damages(_set(plain, option), terms) for option, _ in kept]
        columns = tuple(dict.fromkeys(column for each in damages for column in each))
        return _Decision(
            options=tuple(option for option, _ in kept),
            columns=columns,
            damages=np.array([[each.get(c, 0.0) for c in columns] for each in damages]),
            costs=np.array([(cost - origin) / origin for _, cost in kept]),
        )

    decisions = [_decision(knobs) for knobs in _decided_together(architecture)]
    # Without a damage the cheapest option would always win, so such a decision stays as it is.
    known = tuple(each for each in decisions if each.columns)
    return Ladder(architecture=architecture, base=base, decisions=known)


def _base(architecture: Architecture, segments: Mapping[str, SegmentChoice]) -> Candidate:
    """The least harmful setting of every knob but the segments'."""
    setting = Setting(architecture=architecture.name)
    for knob in architecture.knobs:
        knob.apply(setting, knob.domain[0])
    setting.segments.update(segments)
    return setting.candidate()


def _decided_together(architecture: Architecture) -> list[list[Knob]]:
    """Every knob but the segments', those of the same targets together."""
    found: dict[tuple[str, tuple[str, ...]], list[Knob]] = {}
    for knob in architecture.knobs:
        if knob.part != "segments":
            found.setdefault((knob.part, knob.targets), []).append(knob)
    return list(found.values())


def _options(knobs: Sequence[Knob]) -> list[Option]:
    # Values that cost alike: the first of the domain stands for all of them.
    counts = [len(knob.domain) if knob.changes_costs else 1 for knob in knobs]
    positions = product(*(range(count) for count in counts))
    return [tuple(zip(knobs, each, strict=True)) for each in positions]


def _lacks_zero(candidate: Candidate) -> bool:
    """Whether another option is meant: that without zeros, which 1-bit codes have not."""
    return any(choice.lacks_zero for _, choice in candidate.layers)


def _damages(candidate: Candidate, terms: DamageTerms) -> Mapping[str, float]:
    """Damages of the candidate's decisions by column."""
    return {name: value for name, value in terms.of(candidate).items() if is_damage(name)}


def _apply(setting: Setting, option: Option) -> None:
    for knob, position in option:
        knob.apply(setting, knob.domain[position])


def _set(candidate: Candidate, option: Option) -> Candidate:
    setting = Setting.of(candidate)
    _apply(setting, option)
    return setting.candidate()


def _predictable(ladder: Ladder) -> Ladder:
    kept = tuple(decision for decision in ladder.decisions if decision.is_predictable)
    return replace(ladder, decisions=kept)


def _spread(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """`count` of them at even distances, both ends included."""
    if len(candidates) <= count:
        return list(candidates)
    positions = np.linspace(0, len(candidates) - 1, count).round().astype(int)
    return [candidates[int(p)] for p in dict.fromkeys(positions.tolist())]
