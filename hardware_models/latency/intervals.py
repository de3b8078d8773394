"""95 % intervals of predicted latencies, from the held-out errors of networks of the same kind.

A conformal interval holds for networks like those whose errors it was made from. Errors grow with
the changes of precision inside a network, so networks of one precision and mixed ones have a bound
each (Mondrian conformal prediction: Vovk, Gammerman and Shafer 2005, section 4.5). Latencies over
that of a reference network have bounds of their own: what two predictions get wrong alike cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from paredown.hardware_models.latency.estimate import Estimate
from paredown.hardware_models.work.workload import OperatorWork, Work
from paredown.spaces.system.json_values import Json

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mix = Literal["float", "8-bit", "mixed"]
MIXES: tuple[Mix, ...] = get_args(Mix)
"""Precisions of a network's layers: all in float, all on integer kernels, or some of each."""

COVERAGE = 0.95
FEWEST_NETWORKS = 20
"""The reference and 19 others: with fewer a bound of 95 % has no finite width, ceil((n + 1) 0.95) > n."""
LAYERS = frozenset({"conv", "depthwise_conv", "conv_transpose", "linear", "gates", "recurrent"})
"""Kinds of operators with a weight that they multiply with."""
FLOAT, INTEGER = 1, 2
"""Flags of the precisions that a network's layers have."""


@dataclass(frozen=True)
class Ratio:
    """Latency of a network over another's, with its 95 % interval."""

    value: float
    low: float
    high: float


def mixes_of(works: Sequence[Work]) -> Indices:
    """The mix of precision of every network (networks,), as positions in `MIXES`."""
    flags = np.array([precision_flags(work.operators) for work in works], np.int64)
    return mixes_of_flags(flags)


def mixes_of_flags(flags: Indices) -> Indices:
    """Positions in `MIXES` of combined flags; a network without layers counts as float."""
    return np.maximum(flags, FLOAT) - 1


def precision_flags(operators: Iterable[OperatorWork]) -> int:
    """The flags of all layers among the operators, combined."""
    found = {op.integer for op in operators if op.kind in LAYERS}
    return (FLOAT if False in found else 0) | (INTEGER if True in found else 0)


def symmetric(value_s: Array, relative_error: float | Array) -> tuple[Array, Array]:
    """Intervals of one relative error to both sides, never below zero."""
    return np.maximum(0.0, value_s * (1 - relative_error)), value_s * (1 + relative_error)


def independent_ratio(candidate: Estimate, baseline: Estimate, shared_scale: float = 1.0) -> Ratio:
    """Ratio of two latencies whose errors have nothing to do with each other.

    They add in quadrature of logarithms. Errors of two networks of one space have much in common,
    which makes the interval wide rather than narrow.

    Args:
        shared_scale: Factor in both intervals for the unknown speed of the machine; it cancels.
    """
    value = candidate.value_s / baseline.value_s
    spread = math.exp(
        math.hypot(_spread(candidate, shared_scale), _spread(baseline, shared_scale))
    )
    return Ratio(value, value / spread, value * spread)


def _spread(estimate: Estimate, shared_scale: float) -> float:
    up = math.log(estimate.high_s / shared_scale / estimate.value_s)
    low_s = estimate.low_s * shared_scale
    return max(up, math.log(estimate.value_s / low_s)) if low_s > 0 else up


@dataclass(frozen=True, kw_only=True)
class ErrorBounds:
    """Relative errors that 95 % of new networks keep, by mix of precision in the order of `MIXES`.

    `seconds` bounds |measured / predicted - 1|, `ratio` the same of latencies over that of the
    reference network, whose parts are `reference`; both None where no network was the reference.
    """

    seconds: tuple[float, ...]
    ratio: tuple[float, ...] | None = None
    reference: tuple[float, ...] | None = None

    def interval(self, value_s: Array, mixes: Indices) -> tuple[Array, Array]:
        """Ends of the intervals of latencies (networks,) of networks of these mixes."""
        return symmetric(value_s, np.array(self.seconds)[mixes])

    def of_ratio(self, value: float, mix: int, baseline: Array) -> Ratio | None:
        """The interval of a latency over a baseline's; None if that is not the reference.

        Args:
            baseline: The baseline's parts.
        """
        if self.ratio is None or self.reference != tuple(baseline.tolist()):
            return None
        error = self.ratio[mix]
        return Ratio(value, max(0.0, value * (1 - error)), value * (1 + error))

    def to_json(self) -> dict[str, Json]:
        """Plain values, bounds by the name of the mix."""
        return {
            "seconds": dict(zip(MIXES, self.seconds, strict=True)),
            "ratio": self.ratio and dict(zip(MIXES, self.ratio, strict=True)),
            "reference": self.reference and list(self.reference),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ErrorBounds:
        """The bounds that `to_json` wrote."""
        ratio, reference = data["ratio"], data["reference"]
        return cls(
            seconds=tuple(float(data["seconds"][mix]) for mix in MIXES),
            ratio=ratio and tuple(float(ratio[mix]) for mix in MIXES),
            reference=reference and tuple(float(value) for value in reference),
        )


def bounds_by_mix(errors: Array, mixes: Indices, otherwise: float) -> tuple[float, ...]:
    """The conformal bound of held-out errors (networks,) of each mix, in the order of `MIXES`.

    A mix of fewer than 19 networks takes the bound of all networks together, and `otherwise` where
    those are fewer too.
    """
    pooled = bound_95(errors, otherwise)
    return tuple(bound_95(errors[mixes == mix], pooled) for mix in range(len(MIXES)))


def bound_95(errors: Array, otherwise: float) -> float:
    """Conformal 95 % quantile of absolute held-out errors (Vovk, Gammerman and Shafer 2005).

    `otherwise` where there are fewer than 19.
    """
    rank = math.ceil((len(errors) + 1) * COVERAGE)
    if rank > len(errors):
        return otherwise
    return float(np.sort(np.abs(errors))[rank - 1])
