"""A matrix that codes are to stand for under a Gram matrix, and scales fitted to given codes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError, times_gram
from paredown.compressors.matrix.gram import Gram
from paredown.compressors.rounding.quantize import Codes


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A matrix (R, K) and the Gram of its inputs, with what all codes for it share, made once."""

    matrix: Tensor
    gram: Gram

    @classmethod
    def of(cls, matrix: Tensor, gram: Tensor) -> Target:
        """The matrix under a Gram that it shares with no other."""
        return cls(matrix=matrix, gram=Gram(gram))

    @property
    def weight(self) -> Tensor:
        """The matrix in float64."""
        return self.matrix.double()

    @property
    def grouped(self) -> Tensor:
        """The matrix in float64, (groups, rows, K), as `gram.square` has groups."""
        return self.weight.reshape(len(self.gram.square), -1, self.matrix.shape[1])

    @functools.cached_property
    def seen(self) -> Tensor:
        """The matrix times the Gram, (R, K).

        Raises:
            SolverError: The matrix or the Gram holds NaN or infinity.
        """
        seen = times_gram(self.weight, self.gram.values)
        # A sum of squares is finite only where all of them are.
        if not torch.isfinite((seen * self.weight).sum()):
            raise SolverError(
                "weights and Gram matrix must be finite, got NaN or infinity; check the model's "
                "weights and the calibration data"
            )
        return seen

    @functools.cached_property
    def energy(self) -> Tensor:
        """Mean square (R,) of each row's outputs."""
        return (self.seen * self.weight).sum(dim=1)

    def refit(self, found: Codes) -> Fitted:
        """The codes q with the scale q H w / q H q of each row, which minimises its error."""
        codes, product = found.codes.double(), found.product
        if product is None:
            product = times_gram(codes, self.gram.values)
        size = (product * codes).sum(dim=1)
        overlap = (codes * self.seen).sum(dim=1)
        is_fit = (size > 0) & (overlap > 0)
        scale = torch.where(is_fit, overlap / size, found.scale.double()).to(torch.float32)
        wide = scale.double()
        error = self.energy - wide * (2 * overlap - wide * size)
        return Fitted(codes=Codes(codes=found.codes, scale=scale, product=product), error=error)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """Codes with their product with the Gram and the `error` (R,) of each row."""

    codes: Codes
    error: Tensor

    def or_better(self, other: Fitted) -> Fitted:
        """Row by row this one where its error is lower, else the other."""
        wins = self.error < other.error
        own, others = self.codes, other.codes
        if wins.all():
            return self
        assert own.product is not None
        assert others.product is not None
        return Fitted(
            codes=Codes(
                codes=torch.where(wins.unsqueeze(1), own.codes, others.codes),
                scale=torch.where(wins, own.scale, others.scale),
                product=torch.where(wins.unsqueeze(1), own.product, others.product),
            ),
            error=torch.where(wins, self.error, other.error),
        )
