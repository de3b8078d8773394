"""Why the models of a front are as they are, as records and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from paredown.search.study.evaluation import Goal
from paredown.spaces.system.json_values import Json

MEANING = (
    "Each decision is held against the same model with this decision alone put back. What it bought is "
    "exact. The quality it cost is predicted from the scores of the first rung, before any training, and "
    "stands with the deviation of that prediction. Decisions act together, so they do not add up to all."
)
"""What the figures of decisions are."""

SHARES = (
    "The decisions of a row are put back at once in each model of the front. Shares are of what all the "
    "models save against the uncompressed one, summed over them as logarithms of the cost, and of the "
    "quality they are predicted to lose; decisions act together, so shares do not add up to 100 %. The "
    "factor is by how much the cost would grow in the geometric mean."
)
"""What the figures of importance are."""


SHOWN = 8
"""Decisions of a model that stand alone in a table, the others together in one row."""


@dataclass(frozen=True)
class Lost:
    """Quality lost by a decision, above 0 where it harms, and the deviation of that prediction."""

    mean: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What a decision bought and cost a model, or several decisions at once.

    Attributes:
        what: The decision: "conv1: weights".
        choice: What was decided: "weight bits 4, zeros 50% 2:4".
        bought: Each cost without it less that with it, by metric, in SI units; empty where either model
            has no price.
        growth: Each cost without it as a multiple of that with it; without those of 0.
        lost: Quality that is lost with it and not without it, by metric.
        size: How much it matters, to sort by: logarithms of `growth`, and `lost` in margins.
    """

    what: str
    choice: str
    bought: Mapping[str, float]
    growth: Mapping[str, float]
    lost: Mapping[str, Lost]
    size: float


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of the front and its decisions, the most important first.

    `rest` stands for all but the first `SHOWN` put back at once, also those that were not looked at one
    by one, and is None where there are none; `total` for all: the model against the uncompressed one.
    """

    key: str
    name: str
    decisions: tuple[Worth, ...]
    rest: Worth | None
    total: Worth


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much the front owes to one decision, or to all of a part, as `SHARES` says.

    `share` has a figure for each goal, None where the whole is nothing; `growth` for each cost.
    """

    what: str
    share: Mapping[str, float | None]
    growth: Mapping[str, float]

    @property
    def size(self) -> float:
        """To sort by."""
        return sum(abs(share or 0.0) for share in self.share.values())


@dataclass(frozen=True, kw_only=True)
class Step:
    """From one model of the front to the next: what is decided otherwise, and each goal's two values."""

    first: str
    second: str
    changes: tuple[str, ...]
    values: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The front in the order of its first goal; what each model owes to which decision.

    `evaluations` is how many scores the predictions were learned from; `is_trained` whether the front's
    own scores came after training, which these predictions leave out.
    """

    goals: tuple[Goal, ...]
    members: tuple[Member, ...]
    parts: tuple[Importance, ...]
    decisions: tuple[Importance, ...]
    steps: tuple[Step, ...]
    evaluations: int
    is_trained: bool

    def to_json(self) -> dict[str, Json]:
        """Everything as plain values in SI units, and in words what they mean."""
        plain: dict[str, Json] = asdict(self)
        goals: Json = [{"metric": g.metric, "direction": g.direction} for g in self.goals]
        return {"meaning": MEANING, "shares": SHARES, **plain, "goals": goals}
