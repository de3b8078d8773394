"""The front of measured values: which models of a front no other beats by what was measured.

The front of a search is that of predicted costs and of scores on the search split: it is the same for the
same seed. What was measured stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import front_of


@dataclass(frozen=True, kw_only=True)
class MeasuredFront:
    """Members of a front by what was measured of them.

    `values` holds each goal's value by key, `members` the keys of those that no other beats. A model
    that is broken, or lacks a figure that others have, is in neither.
    """

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    members: frozenset[str] = frozenset()

    def holds(self, key: str) -> bool | None:
        """Whether a model is on the front of measured values; None where that is not known."""
        return key in self.members if key in self.values else None


def measured_front(
    goals: Sequence[Goal], members: Sequence[Evaluation], checks: Sequence[BundleCheck]
) -> MeasuredFront:
    """The front's members compared by what was measured.

    A quality is that of the test split. A latency is the measured ratio to the uncompressed model,
    times the mean of what that model took: bundles are measured minutes apart, and their ratios
    compare where seconds do not. A goal that nothing here measures (MACs, energy, the latency on
    another device) keeps its predicted value.
    """
    sound = {check.key: check for check in checks if not check.mismatches}
    whole_s = _mean([c.measured["uncompressed_latency_s"] for c in sound.values() if is_timed(c)])
    found: dict[str, dict[str, float]] = {}
    for goal in goals:
        known = {
            k: v for k, c in sound.items() if (v := _value(goal.metric, c, whole_s)) is not None
        }
        for member in members:
            if member.key not in sound:
                continue
            value = known.get(member.key) if known else member.metrics[goal.metric]
            if value is not None:
                found.setdefault(member.key, {})[goal.metric] = value
    values = {key: each for key, each in found.items() if len(each) == len(goals)}
    unbound = tuple(Goal(metric=g.metric, direction=g.direction) for g in goals)
    compared = [
        Evaluation(number=m.number, key=m.key, candidate=m.candidate, metrics=values[m.key])
        for m in members
        if m.key in values
    ]
    return MeasuredFront(values=values, members=front_of(compared, unbound).keys)


def is_timed(check: BundleCheck) -> bool:
    """Whether a bundle's latency was measured beside that of the uncompressed model."""
    return {"latency_ratio", "uncompressed_latency_s"} <= check.measured.keys()


def _value(metric: str, check: BundleCheck, whole_s: float) -> float | None:
    if metric == "latency_s":
        return check.measured["latency_ratio"] * whole_s if is_timed(check) else None
    return check.measured.get(f"test_{metric}", check.measured.get(metric))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
