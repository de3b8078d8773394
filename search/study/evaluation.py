"""What came of a candidate: its goals in the user's units, or why it failed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Literal

from paredown.search.config.qualities import Direction
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

Kind = Literal["reference", "search"]
Curve = tuple[tuple[int, float, float], ...]
"""Of a training (step, training loss, held-out loss) on the way."""

UNCOMPRESSED = "uncompressed"
UNIFORM_8_BIT = "uniform 8-bit"
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

    def moved(self, by: float) -> Goal:
        """The goal with its bounds moved.

        >>> Goal(metric="accuracy", direction="maximize", at_least=0.5).moved(0.25).at_least
        0.75
        """
        low, high = (None if x is None else x + by for x in (self.at_least, self.at_most))
        return replace(self, at_least=low, at_most=high)

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


class FailureKind(Enum):
    """What kept a candidate from being scored."""

    RAISED = "raised"
    """Assembling, the metric or the loss raised an exception."""
    TIMED_OUT = "timed out"
    ENDED_PROCESS = "ended its process"
    """The evaluation ended the process that it ran in: a crash, an exit, too little memory."""
    WORKER_LOST = "worker lost"
    """The worker ended and not, as far as is known, by the candidate's fault: it is asked again."""
    NOT_FINITE = "not finite"
    NO_PRICE = "no price"
    """The runtime refuses the file that its latency would be measured with."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a candidate has no score: the kind, one sentence, and where it happened.

    `where` holds lines of a traceback or the last words of a process, and is "" where there are none.
    """

    kind: FailureKind
    sentence: str
    where: str = ""

    @classmethod
    def of_text(cls, kind: FailureKind, text: str) -> Failure:
        """The failure that a text reports: a sentence in its first line, and below it where."""
        sentence, _, where = text.strip().partition("\n")
        return cls(kind=kind, sentence=sentence.rstrip(":") or "no reason given", where=where)

    @property
    def text(self) -> str:
        """The sentence, and on the lines below it where it happened."""
        return f"{self.sentence}\n{self.where}" if self.where else self.sentence

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready dict from which `from_json` gives an equal record."""
        return asdict(self) | {"kind": self.kind.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Failure:
        """The failure that `to_json` wrote.

        Raises:
            TypeError: A field is unknown or missing.
            ValueError: The kind is unknown.
        """
        return cls(**{**data, "kind": FailureKind(data["kind"])})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Spent:
    """Seconds of a worker by what they went into; assembling and solving layers are `solving_s`."""

    solving_s: float = 0.0
    training_s: float = 0.0
    scoring_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All of them."""
        return self.solving_s + self.training_s + self.scoring_s


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a candidate does on `images` examples of the search split.

    `trained` is the digest under which the run keeps its tensors where it was trained, else None;
    `curve` says how the training went. Scores are equal however long they took.
    """

    metric: float
    loss: float
    images: int
    trained: str | None = None
    curve: Curve = ()
    spent: Spent = field(default=Spent(), compare=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Score:
        """The score whose fields JSON gave."""
        records = {"curve": _curve(data.get("curve", ())), "spent": _spent(data)}
        return cls(**{**data, **records})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One finished evaluation: the candidate and its metrics, or the reason it has none.

    `label` names a reference ("uncompressed", "uniform 8-bit") and is "" otherwise. `rung` says how
    it was scored; what may be compared with each other, `comparable` gives. `metrics` are in SI
    units by name (accuracy, loss, latency_s, onnx_bytes). `failure` is None where the evaluation
    succeeded. `trained`, `curve` and `spent` are as in `Score`; no time is `spent` where it failed.
    """

    number: int
    key: str
    candidate: Candidate
    kind: Kind = "search"
    label: str = ""
    rung: Rung = field(default_factory=Rung)
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    trained: str | None = None
    curve: Curve = ()
    duration_s: float = 0.0
    spent: Spent = field(default=Spent(), compare=False)

    @property
    def is_failed(self) -> bool:
        """Whether the candidate has no score."""
        return self.failure is not None

    @property
    def is_lost(self) -> bool:
        """Whether the worker failed and not, as far as is known, the candidate."""
        return self.failure is not None and self.failure.kind is FailureKind.WORKER_LOST

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready dict from which `from_json` gives an equal record."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "candidate": self.candidate.to_json(),
            "rung": self.rung.to_json(),
            "metrics": dict(self.metrics),
            "failure": self.failure and self.failure.to_json(),
            "curve": [list(point) for point in self.curve],
            "spent": asdict(self.spent),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Evaluation:
        """The evaluation that `to_json` wrote.

        Raises:
            TypeError, ValueError: A field is unknown, missing, or not what it should be.
        """
        made = {"candidate": Candidate.from_json, "rung": Rung.from_json}
        records = {name: make(_mapping(name, data.get(name))) for name, make in made.items()}
        failure = data.get("failure")
        if failure is not None:
            records["failure"] = Failure.from_json(_mapping("failure", failure))
        more = {"curve": _curve(data.get("curve", ())), "spent": _spent(data)}
        return cls(**{**data, **records, **more})  # type: ignore[arg-type]


def _curve(data: Json) -> Curve:
    return tuple((step, loss, held_out) for step, loss, held_out in data)  # type: ignore[union-attr, misc]


def _spent(data: Mapping[str, Json]) -> Spent:
    return Spent(**_mapping("spent", data.get("spent", {})))  # type: ignore[arg-type]


def _mapping(name: str, value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise TypeError(f"an evaluation's {name} must be a mapping, got {value!r}")
    return value


def of_rung(evaluations: Iterable[Evaluation], rung: Rung) -> tuple[Evaluation, ...]:
    """Those that were scored on `rung`, in order."""
    return tuple(e for e in evaluations if e.rung == rung)


def comparable(evaluations: Iterable[Evaluation], rung: Rung) -> tuple[Evaluation, ...]:
    """Those whose scores may be compared with scores of `rung`, in order.

    A candidate that was trained further is among them once for each rung.
    """
    return tuple(e for e in evaluations if e.rung.compares_with(rung))


def reference(evaluations: Iterable[Evaluation], label: str) -> Evaluation | None:
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
