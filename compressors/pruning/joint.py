"""Pruned and quantised at once: which weights stay is decided by what their codes are worth.

The codebook with an l0 constraint (thesis of Hou 2019) under the full Gram matrix. Coordinate descent
visits every weight, kept or not: at the optimum given all others it would take the code q and save
H_jj (v^2 - (s q - v)^2) over being zero; the count of weights that may stay sets the price of staying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.matrix.selection import smallest
from paredown.compressors.pruning.obs import removal_path
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.rounding.descent import descend_codes, fitted_scale, sweep_columns_
from paredown.compressors.rounding.quantize import Codes, top_code
from paredown.compressors.rounding.target import Target

_SWEEPS = 12
_DISCOUNT = 0.5
"""Share of the price that the first sweep forgoes: codes may come in before others have left."""


def improve_jointly(
    target: Target, bits: int, starts: Sequence[tuple[Codes, Tensor]]
) -> tuple[Codes, Tensor]:
    """Codes and mask, as many kept as in each start, whose summed error is at most any start's.

    Args:
        target: The matrix (R, K); rows are compared by their errors, so scale rows to weigh them.
            Its Gram is (K, K) or (groups, K, K).
        starts: Codes (R, K) that vanish outside the mask beside them; all masks keep as many.
    """
    weight, gram = target.weight, target.gram.values
    kept = int(starts[0][1].sum())
    state = _States.of(target, [codes for codes, _ in starts], bits)
    ends = [(row_errors(c.dense() - weight, gram).sum(), c, mask) for c, mask in starts]
    _, prices = state.largest(kept)
    for step in range(_SWEEPS):
        # Not only downhill: a round that ends dearer may lead to a better one.
        state.sweep_(prices * (1 - _DISCOUNT * (1 - step / _SWEEPS)))
        allowed, prices = state.largest(kept)
        state.descend_(allowed)
        for found, mask in state.found(allowed, weight.shape):
            ends.append((row_errors(found.dense() - weight, gram).sum(), found, mask))
        # The earliest of equals stays.
        ends = [min(ends, key=lambda end: float(end[0]))]
    return ends[0][1:]


def zeros_among(
    target: Target, bits: int, codes: Codes, kept: int, paths: Paths
) -> tuple[Codes, Tensor]:
    """Of codes without zeros forced the `kept` that exact OBS would keep, settled anew, and their mask.

    The other order, from which `improve_jointly` may start too: at 2 bits and half of the weights it is
    the better one.
    """
    rounded = Target(matrix=codes.dense(), gram=target.gram)
    path = paths.get(rounded, "element", lambda: removal_path(rounded))
    mask = path.mask(codes.codes.numel() - kept, codes.codes.shape[1])
    grouped = target.grouped
    settled, scale = descend_codes(
        grouped,
        target.gram.square,
        (codes.codes * mask).double().reshape(grouped.shape),
        codes.scale.double().reshape(grouped.shape[:2]),
        bits,
        mask.reshape(grouped.shape),
    )
    values = settled.reshape(mask.shape).to(torch.int8)
    return Codes(codes=values, scale=scale.flatten().float()), mask


@dataclass
class _States:
    """Codes under way from several starts, side by side as rows.

    `weight` and `codes` are (groups, starts x rows, K); `scale` is (groups, starts x rows).
    """

    weight: Tensor
    gram: Tensor
    codes: Tensor
    scale: Tensor
    bits: int
    count: int

    @classmethod
    def of(cls, target: Target, starts: Sequence[Codes], bits: int) -> _States:
        """Of codes (R, K) for the target."""
        weight = target.grouped
        codes = [start.codes.double().reshape(weight.shape) for start in starts]
        scales = [start.scale.double().reshape(weight.shape[:2]) for start in starts]
        count = len(starts)
        wide = weight.repeat(1, count, 1)
        codes_of_all, scales_of_all = torch.cat(codes, dim=1), torch.cat(scales, dim=1)
        return cls(wide, target.gram.square, codes_of_all, scales_of_all, bits, count)

    def largest(self, kept: int) -> tuple[Tensor, Tensor]:
        """Mask of the `kept` largest savings of each start, and the smallest of them, (starts,).

        A weight's saving is what its best nonzero code saves over zero, all other codes standing.
        """
        gradient = (self.codes * self.scale.unsqueeze(2) - self.weight) @ self.gram
        diagonal = self.gram.diagonal(dim1=1, dim2=2).unsqueeze(1)
        live = torch.where(diagonal > 0, diagonal, 1.0)
        wanted = self.codes * self.scale.unsqueeze(2) - gradient / live
        step = self.scale.unsqueeze(2)
        value = torch.round(wanted.abs() / step).clamp_(1, top_code(self.bits)) * step
        savings = diagonal * value * (2 * wanted.abs() - value)
        parts = [_largest(part, kept) for part in savings.chunk(self.count, dim=1)]
        prices = torch.tensor([price for _, price in parts], dtype=savings.dtype)
        return torch.cat([mask for mask, _ in parts], dim=1), prices.to(savings.device)

    def sweep_(self, prices: Tensor) -> None:
        """One sweep in which staying nonzero costs `prices` (starts,); scales are refitted after."""
        weight, codes = (t.transpose(1, 2).contiguous() for t in (self.weight, self.codes))
        diagonal = self.gram.diagonal(dim1=1, dim2=2).unsqueeze(2)
        by_row = prices.repeat_interleave(weight.shape[2] // self.count)
        # In squared steps of the scale; what saves nothing, like a dead input's weight, goes.
        toll = by_row / (diagonal * self.scale.square().unsqueeze(1))
        toll = torch.where(diagonal > 0, toll, torch.inf)

        def _settle(index: int, best: Tensor) -> Tensor:
            size = best.abs()
            code = size.round().clamp_(1, top_code(self.bits))
            saving = size.mul_(2).sub_(code).mul_(code)
            return code.copysign_(best).mul_(saving > toll[:, index])

        sweep_columns_(codes, weight, self.gram, self.scale, _settle)
        self.scale = fitted_scale(weight, self.gram, codes, self.scale)
        self.codes = codes.transpose(1, 2).contiguous()

    def descend_(self, allowed: Tensor) -> None:
        """Codes settled anew where `allowed`, zero elsewhere."""
        self.codes, self.scale = descend_codes(
            self.weight, self.gram, self.codes * allowed, self.scale, self.bits, allowed, sweeps=2
        )

    def found(self, allowed: Tensor, shape: torch.Size) -> Iterator[tuple[Codes, Tensor]]:
        """Each start's codes and mask, in the shape of the matrix."""
        parts = (t.chunk(self.count, dim=1) for t in (self.codes, self.scale, allowed))
        for codes, scale, mask in zip(*parts, strict=True):
            values = codes.reshape(shape).to(torch.int8)
            yield Codes(codes=values, scale=scale.flatten().float()), mask.reshape(shape)


def _largest(savings: Tensor, kept: int) -> tuple[Tensor, float]:
    """Mask of the `kept` largest savings, ties by position, and the saving of the last one kept."""
    mask = smallest(-savings, kept)
    price = float(savings[mask].min()) if kept else float("inf")
    return mask, max(price, 0.0)
