"""Pruned and quantised at once: which weights stay is decided by what their codes are worth.

The codebook with an l0 constraint (thesis of Hou 2019) under the full Gram matrix. Coordinate descent
visits every weight, kept or not: at the optimum given all others it would take the code q and save
H_jj (v^2 - (s q - v)^2) over being zero; the count of weights that may stay sets the price of staying.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.descent import descend_codes, fitted_scale
from paredown.compressors.matrix import row_errors, split_groups
from paredown.compressors.obs import removal_path
from paredown.compressors.quantize import Codes, top_code
from paredown.compressors.selection import smallest

_SWEEPS = 12
_DISCOUNT = 0.5
"""Share of the price that the first sweep forgoes: codes may come in before others have left."""
_BLOCK = 64


def improve_jointly(
    weight: Tensor, gram: Tensor, bits: int, start: Codes, mask: Tensor
) -> tuple[Codes, Tensor]:
    """Codes and mask, as many kept as in `mask`, whose summed error is at most that of `start`.

    Args:
        weight: The matrix (R, K); rows are compared by their errors, so scale rows to weigh them.
        gram: (K, K) or (groups, K, K).
        start: Codes that vanish outside `mask` (R, K).
    """
    weight = weight.double()
    grouped, square = split_groups(weight, gram)
    kept = int(mask.sum())
    state = _State(
        weight=grouped,
        gram=square,
        codes=start.codes.double().reshape(grouped.shape),
        scale=start.scale.double().reshape(grouped.shape[:2]),
        top=top_code(bits),
    )
    best, best_mask, least = start, mask, float(row_errors(start.dense() - weight, gram).sum())
    price = float(_largest(state.savings(), kept)[1])
    for step in range(_SWEEPS):
        # Not only downhill: a round that ends dearer may lead to a better one.
        state.sweep_(price * (1 - _DISCOUNT * (1 - step / _SWEEPS)))
        savings = state.savings()
        allowed, price = _largest(savings, kept)
        codes, scale = descend_codes(
            grouped, square, state.codes * allowed, state.scale, state.top, allowed, sweeps=2
        )
        found = Codes(
            codes=codes.reshape(weight.shape).to(torch.int8), scale=scale.flatten().float()
        )
        error = float(row_errors(found.dense() - weight, gram).sum())
        if error < least:
            best, best_mask, least = found, allowed.reshape(weight.shape), error
        state.codes, state.scale = codes, scale
    return best, best_mask


def zeros_among(
    weight: Tensor, gram: Tensor, bits: int, codes: Codes, kept: int
) -> tuple[Codes, Tensor]:
    """Of codes without zeros forced the `kept` that exact OBS would keep, settled anew, and their mask.

    The other order, from which `improve_jointly` may start too: at 2 bits and half of the weights it is
    the better one.
    """
    removed = weight.numel() - kept
    mask = removal_path(codes.dense(), gram).mask(removed, weight.shape[1])
    grouped, square = split_groups(weight.double(), gram)
    settled, scale = descend_codes(
        grouped,
        square,
        (codes.codes * mask).double().reshape(grouped.shape),
        codes.scale.double().reshape(grouped.shape[:2]),
        top_code(bits),
        mask.reshape(grouped.shape),
    )
    values = settled.reshape(weight.shape).to(torch.int8)
    return Codes(codes=values, scale=scale.flatten().float()), mask


@dataclass
class _State:
    """Codes under way; all tensors (groups, rows, K) but the scale (groups, rows)."""

    weight: Tensor
    gram: Tensor
    codes: Tensor
    scale: Tensor
    top: int

    def savings(self) -> Tensor:
        """What each weight's best nonzero code saves over zero, all other codes standing."""
        gradient = (self.codes * self.scale.unsqueeze(2) - self.weight) @ self.gram
        diagonal = self.gram.diagonal(dim1=1, dim2=2).unsqueeze(1)
        live = torch.where(diagonal > 0, diagonal, 1.0)
        wanted = self.codes * self.scale.unsqueeze(2) - gradient / live
        value = self._nonzero(wanted, self.scale.unsqueeze(2)) * self.scale.unsqueeze(2)
        return diagonal * value * (2 * wanted - value)

    def sweep_(self, price: float) -> None:
        """One sweep in which staying nonzero costs `price`; scales are refitted at its end."""
        diagonal = self.gram.diagonal(dim1=1, dim2=2)
        live = torch.where(diagonal > 0, diagonal, 1.0)
        gradient = (self.codes * self.scale.unsqueeze(2) - self.weight) @ self.gram
        for start in range(0, self.codes.shape[2], _BLOCK):
            own = slice(start, min(start + _BLOCK, self.codes.shape[2]))
            near, square = gradient[:, :, own], self.gram[:, own, own]
            moved = torch.empty_like(near)
            for i in range(near.shape[2]):
                old = self.codes[:, :, start + i]
                curvature = live[:, start + i].unsqueeze(1)
                wanted = old * self.scale - near[:, :, i] / curvature
                code = self._nonzero(wanted, self.scale)
                value = code * self.scale
                saving = diagonal[:, start + i].unsqueeze(1) * value * (2 * wanted - value)
                new = torch.where(saving > price, code, 0.0)
                moved[:, :, i] = (new - old) * self.scale
                self.codes[:, :, start + i] = new
                near[:, :, i + 1 :] += moved[:, :, i : i + 1] * square[:, i : i + 1, i + 1 :]
            gradient[:, :, own.stop :] += moved @ self.gram[:, own, own.stop :]
        self.scale = fitted_scale(self.weight, self.gram, self.codes, self.scale)

    def _nonzero(self, wanted: Tensor, scale: Tensor) -> Tensor:
        """The nearest code that is not zero."""
        size = torch.round(wanted.abs() / scale).clamp_(1, self.top)
        return torch.where(wanted < 0, -size, size)


def _largest(savings: Tensor, kept: int) -> tuple[Tensor, float]:
    """Mask of the `kept` largest savings, ties by position, and the saving of the last one kept."""
    mask = smallest(-savings, kept)
    price = float(savings[mask].min()) if kept else float("inf")
    return mask, max(price, 0.0)
