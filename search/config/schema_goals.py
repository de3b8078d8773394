"""The `goals` of the config: what is optimised, in which direction, and within which bounds."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import Field, ValidationInfo, field_validator, model_validator

from paredown.search.config.qualities import QUALITIES, Direction, quality_of
from paredown.search.config.schema_hardware import LATENCY_ON
from paredown.search.config.schema_section import Section, Value

COSTS = (
    "latency_s",
    "onnx_bytes",
    "packed_bytes",
    "peak_memory_bytes",
    "weight_memory_bytes",
    "energy_ratio",
    "macs",
    "bops",
)


def _default_direction(data: Mapping[str, object]) -> str:
    return _known_direction(str(data.get("metric"))) or ""


def _known_direction(metric: str) -> Direction | None:
    if _is_cost(metric):
        return "minimize"
    return QUALITIES[metric].direction if metric in QUALITIES else None


def _is_cost(metric: str) -> bool:
    return metric in COSTS or metric.startswith(LATENCY_ON)


class GoalSection(Section):
    """One thing to optimise, with an optional hard bound."""

    metric: str = Field(
        min_length=1,
        description="accuracy, loss, the task's own metric, latency_s, onnx_bytes, packed_bytes, "
        "peak_memory_bytes, weight_memory_bytes, energy_ratio, macs, bops, or latency_s@NAME of a "
        "device in hardware.also.",
    )
    direction: Direction = Field(
        default_factory=_default_direction,
        validate_default=True,
        description="maximize or minimize; needed for a metric of your own, known for all others.",
    )
    at_most: float | None = Field(
        None, allow_inf_nan=False, description="Hard upper bound of a minimised metric (SI units)."
    )
    at_least: float | None = Field(
        None, allow_inf_nan=False, description="Hard lower bound of a maximised metric."
    )
    relative: bool = Field(
        False,
        description="The bound is against the uncompressed model: a ratio for costs, a difference "
        "for qualities (accuracy at_least: -0.02 is two points lost).",
    )

    @property
    def is_cost(self) -> bool:
        """Whether the metric is a cost (time, bytes, energy, operations) and not a quality."""
        return _is_cost(self.metric)

    @property
    def bound(self) -> float | None:
        """The hard bound as written, or None."""
        return self.at_least if self.direction == "maximize" else self.at_most

    @field_validator("direction", mode="before")
    @classmethod
    def _is_known_or_given(cls, direction: Value, info: ValidationInfo) -> Value:
        metric = info.data.get("metric")
        if direction != "" or metric is None:
            return direction
        close = difflib.get_close_matches(metric, (*QUALITIES, *COSTS), n=1, cutoff=0.6)
        meant = f"did you mean {close[0]!r}? Else " if close else ""
        raise ValueError(
            f"is needed for a metric of your own, got none for {metric!r}; {meant}"
            "add maximize or minimize"
        )

    @model_validator(mode="after")
    def _bound_makes_sense(self) -> GoalSection:
        known = _known_direction(self.metric)
        if known and self.direction != known:
            raise ValueError(f"{self.metric} is always {known}d; leave `direction` out")
        wrong, right = ("at_most", "at_least")
        if self.direction == "minimize":
            wrong, right = right, wrong
        if getattr(self, wrong) is not None:
            raise ValueError(
                f"{self.metric} is {self.direction}d, so its bound is `{right}`; "
                f"replace `{wrong}`, got {getattr(self, wrong)}"
            )
        if self.relative and self.bound is None:
            raise ValueError(f"`relative` needs a bound; add `{right}` or leave `relative` out")
        self._check_size()
        return self

    def _check_size(self) -> None:
        if self.bound is None:
            return
        if self.is_cost and self.bound <= 0:
            raise ValueError(f"a bound of {self.metric} must be above 0, got {self.bound}")
        is_share = quality_of(self.metric).is_share
        if is_share and not (-1 if self.relative else 0) <= self.bound <= 1:
            raise ValueError(
                f"{self.metric} is a share in [0, 1], got a bound of {self.bound}; "
                "write 0.88 for 88 %"
            )
