"""What came of a candidate: its goals in the user's units, or why it failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from paredown.search.config.qualities import Direction
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.system.errors import ParedownError

Kind = Literal["reference", "search"]

UNCOMPRESSED = "uncompressed"
UNIFORM_8_BIT = "uniform 8-bit"
LOST = "WorkerDied"
"""How the error of an evaluation begins whose worker ended before the candidate was scored."""

# A unit in the name marks a cost; operations are counted without one.
_COST_ENDINGS = ("_s", "_bytes", "_j")
_COUNTED_COSTS = ("macs", "bops", "energy_ratio")


class MissingMetricError(ParedownError):
    """A successful evaluation lacks a metric that a goal names."""


def is_cost(metric: str) -> bool:
    """Whether `metric` is a price (time, bytes, energy, operations) and not a quality.

    >>> is_cost("latency_s"), is_cost("latency_s@rpi5-a76-ort"), is_cost("accuracy")
    (True, True, False)
    """
    kind, _, _ = metric.partition("@")  # what stands behind it is a device
    return kind.endswith(_COST_ENDINGS) or kind in _COUNTED_COSTS


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One thing the search makes large or small, with hard bounds in the metric's own unit.

    `relative` says that the bounds were given against the uncompressed model.
    """

    metric: str
    direction: Direction
    at_most: float | None = None
    at_least: float | None = None
    relative: bool = False

    @property
    def is_cost(self) -> bool:
        """Whether the metric is a cost and not a quality."""
        return is_cost(self.metric)

    def loss(self, value: float) -> float:
        """`value` turned so that smaller is better."""
        return -value if self.direction == "maximize" else value

    def is_met(self, value: float) -> bool:
        """Whether `value` lies within the bounds; NaN never does."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= value <= high

    @property
    def has_bound(self) -> bool:
        """Whether a hard bound is set."""
        return (self.at_most, self.at_least) != (None, None)

    def keeps_bounds(self, metrics: Mapping[str, float]) -> bool:
        """Whether a candidate of these metrics lies within the bounds.

        Predicted seconds are held at the upper end of their 95 % interval, where there is one, for
        the bound is a promise. Against the uncompressed model the predicted values themselves
        count: what the model does not know of this machine falls on both alike.
        """
        name = self.held_metric
        return self.is_met(metrics[name if name in metrics else self.metric])

    @property
    def held_metric(self) -> str:
        """The metric that a bound is held against."""
        kind, at, device = self.metric.partition("@")
        return (
            self.metric if self.relative or kind != "latency_s" else f"latency_high_s{at}{device}"
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a candidate does on `images` examples of the search split."""

    metric: float
    loss: float
    images: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One finished evaluation: the candidate and its metrics, or the reason it has none.

    `label` names a reference ("uncompressed", "uniform 8-bit") and is "" otherwise. `rung` is the
    fidelity: only evaluations of one rung are compared. `metrics` are in SI units by name
    (accuracy, loss, latency_s, onnx_bytes). `error` is None where the evaluation succeeded.
    """

    number: int
    key: str
    candidate: Candidate
    kind: Kind = "search"
    label: str = ""
    rung: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    duration_s: float = 0.0

    @property
    def is_failed(self) -> bool:
        """Whether the evaluation ended in an error."""
        return self.error is not None

    @property
    def is_lost(self) -> bool:
        """Whether the worker failed and not, as far as is known, the candidate."""
        return self.error is not None and self.error.startswith(LOST)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict from which `from_json` gives an equal record."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"candidate": self.candidate.to_json(), "metrics": dict(self.metrics)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """The evaluation that `to_json` wrote.

        Raises:
            TypeError: A field is unknown or missing.
        """
        return cls(**(dict(data) | {"candidate": Candidate.from_json(data["candidate"])}))


def reference(evaluations: tuple[Evaluation, ...], label: str) -> Evaluation | None:
    """The latest successful reference named `label`, None where there is none."""
    found = [e for e in evaluations if e.label == label and not e.is_failed]
    return found[-1] if found else None


def require_goals(evaluation: Evaluation, goals: Sequence[Goal]) -> None:
    """Nothing, where `evaluation` holds a number for every goal.

    Raises:
        MissingMetricError: A goal's metric is absent or NaN.
    """
    missing = [g.metric for g in goals if math.isnan(evaluation.metrics.get(g.metric, math.nan))]
    if missing:
        known = ", ".join(sorted(evaluation.metrics)) or "none"
        raise MissingMetricError(
            f"an evaluation must hold every goal, {evaluation.key} lacks {', '.join(missing)} "
            f"(it has: {known}); record it with `error` set instead"
        )
