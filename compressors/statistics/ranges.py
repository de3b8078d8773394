"""Ranges of activations, and the 8-bit scale and zero point that represent them best."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paredown.compressors.statistics.layer_statistics import StatisticsError
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.functions import quantize_dequantize
from paredown.spaces.graph.graph import Arguments, Graph, Node, run
from paredown.spaces.structure.side_values import uncoded_values

_CODES = 255
_SAMPLE = 8192
"""Values kept of each activation and batch to search the clipping range on."""
_TAIL = 0.999
"""Share of a batch's sample beyond which, on either side, every value is kept: what clipping costs lies
there, and a thin sample hardly meets it."""
_PIECE = 2**16
_SHRINKS = tuple(1.0 - 0.025 * step for step in range(29))
"""Tried shares of a range's end, 1 down to 0.3: at 8 bits the best clip is never far inside."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """What one value takes: `minimum..maximum` seen, `low..high` to be represented.

    `low <= 0 <= high` always, so that zero (padding, ReLU) has an exact code.
    """

    minimum: float
    maximum: float
    low: float
    high: float

    def scale_and_zero_point(self) -> tuple[float, int]:
        """Step, exact in float32, and the code of zero, which is 0 when nothing is negative.

        A value that is always zero gets the scale 1.
        """
        return _scale_and_zero_point(self.low, self.high)


class RangeCollector:
    """Ranges of every float value given to it, by name.

    `minimum` and `maximum` are exact; the clipping range minimises the squared error of unsigned
    8-bit codes on an even subsample of each batch, in whose tails every value counts.
    """

    def __init__(self, masked: Collection[str] = ()) -> None:
        """`masked` values are never codes, so they may be infinite, and have no range then."""
        self._masked = frozenset(masked)
        self._infinite: set[str] = set()
        self._seen: dict[str, tuple[float, float]] = {}
        self._samples: dict[str, list[_Sample]] = {}

    def note(self, name: str, value: Result, real: Tensor | None = None) -> None:
        """Counts a batch of one value in; anything but a float tensor is passed over.

        Args:
            real: Which of it counts, boolean and broadcast to its shape; None where all does.

        Raises:
            StatisticsError: The value is infinite or not a number.
        """
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return
        value = value.detach() if real is None else value.detach()[real.expand(value.shape)]
        if not value.numel():
            return
        low, high = (float(v) for v in torch.aminmax(value))
        if not np.isfinite([low, high]).all():
            if name in self._masked and not np.isnan([low, high]).any():
                self._infinite.add(name)
                return
            raise StatisticsError(
                f"value {name!r} must be finite on the calibration data, got {low}..{high}; "
                "check the data and the weights"
            )
        before = self._seen.get(name, (low, high))
        self._seen[name] = min(before[0], low), max(before[1], high)
        self._samples.setdefault(name, []).append(_Sample.of(value.flatten()))

    def found(self) -> dict[str, Range]:
        """The ranges, each fitted to the samples of all its batches."""
        together = {name: _Sample.together(parts) for name, parts in self._samples.items()}
        finite = (name for name in self._seen if name not in self._infinite)
        return {name: _fit(*self._seen[name], together[name]) for name in finite}


def collect_ranges(
    graph: Graph, tensors: Mapping[str, Tensor], batches: Iterable[list[Tensor]]
) -> dict[str, Range]:
    """Ranges of every float value, graph inputs included, by its name, in a pass of their own.

    Raises:
        StatisticsError: There is no batch, or a value is infinite or not a number.
    """
    collector = RangeCollector(uncoded_values(graph, tensors))

    def _after(node: Node, _: Arguments, output: Result) -> Result:
        collector.note(node.name, output)
        return output

    with torch.no_grad():
        for inputs in batches:
            for name, value in zip(graph.inputs, inputs, strict=True):
                collector.note(name, value)
            run(graph, tensors, inputs, after=_after)
    found = collector.found()
    if not found:
        raise StatisticsError("calibration needs at least one batch, got none; check its split")
    return found


@dataclass(frozen=True)
class _Sample:
    """Values that stand for a whole: each of `body` for `weight` of them, each of `tails` for itself."""

    body: Tensor
    weight: float
    tails: Tensor

    @classmethod
    def of(cls, flat: Tensor) -> _Sample:
        """Of all values of one batch, in a row."""
        step = -(-len(flat) // _SAMPLE)
        if step == 1:
            return cls(flat.clone(), 1.0, flat[:0])
        thin = flat[::step].sort().values
        cut = round(len(thin) * (1 - _TAIL))
        low, high = thin[cut], thin[-1 - cut]
        outside = _outside(flat, float(low), float(high))
        body = thin[(thin >= low) & (thin <= high)]
        return cls(body, (len(flat) - len(outside)) / len(body), outside)

    @classmethod
    def together(cls, parts: list[_Sample]) -> _Sample:
        """Of several batches: the body thinned again, by counts alike where batches differ."""
        body, tails = (torch.cat([getattr(p, side) for p in parts]) for side in ("body", "tails"))
        total = sum(len(p.body) * p.weight for p in parts)
        body = body[:: -(-len(body) // (4 * _SAMPLE))]
        return cls(body, total / len(body), tails)

    def error(self, low: float, high: float) -> float:
        """Squared error of the whole under codes for low..high."""
        scale_and_zero_point = _scale_and_zero_point(low, high)
        parts = (self.body, self.weight), (self.tails, 1.0)
        return sum(
            weight
            * float(
                quantize_dequantize(x, *scale_and_zero_point, 0, _CODES).sub_(x).square_().sum()
            )
            for x, weight in parts
        )


def _outside(flat: Tensor, low: float, high: float) -> Tensor:
    """The values below `low` or above `high`, in order.

    By NumPy, in pieces that stay in the processor's cache: torch takes five times as long.
    """
    if flat.device.type != "cpu":
        return flat[(flat < low) | (flat > high)]
    pieces = (part.numpy() for part in flat.split(_PIECE))
    return torch.from_numpy(np.concatenate([p[(p < low) | (p > high)] for p in pieces]))


def _fit(minimum: float, maximum: float, sample: _Sample) -> Range:
    low, high = min(minimum, 0.0), max(maximum, 0.0)
    best = sample.error(low, high), low, high
    # Both ends together first, then each end on its own: a two-dimensional grid is not needed.
    starts = [(best[1] * p, best[2] * p) for p in _SHRINKS]
    best = min((best, *((sample.error(a, b), a, b) for a, b in starts)))
    if low < 0 < high:
        best = min((best, *((sample.error(low * p, best[2]), low * p, best[2]) for p in _SHRINKS)))
        best = min(
            (best, *((sample.error(best[1], high * p), best[1], high * p) for p in _SHRINKS))
        )
    return Range(minimum=minimum, maximum=maximum, low=best[1], high=best[2])


def _scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    scale = float(np.float32((high - low) / _CODES))
    # Below the normal numbers a division by the scale overflows; such a value is zero in effect.
    if scale < float(np.finfo(np.float32).tiny):
        return 1.0, 0
    return scale, round(-low / scale)
