"""Large matrices compressed some rows at a time, so that no step holds many copies of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from paredown.compressors.layers.methods import Compressed, Problem, compress
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import LayerChoice

_MOST_VALUES = 2**24
"""Values that are compressed at once: 128 MiB of float64, of which a method needs ten."""


def compress_by_rows(problem: Problem, choice: LayerChoice) -> Compressed:
    """What `compress` makes of the problem; of a large one part by part, where rows do not compete.

    They compete for zeros. Without zeros a row's codes are its own affair, except that the fallback to
    the baseline is decided for each part.

    Raises:
        SolverError: As `compress`.
    """
    matrix, gram = problem.target.matrix, problem.target.gram
    at_once = max(1, _MOST_VALUES // matrix.shape[1])
    if len(matrix) <= at_once or gram.values.ndim == 3 or choice.zeros.share > 0:
        return compress(problem, choice)
    known = problem.row_curvature
    curvatures: Sequence[Tensor | None] = () if known is None else known.split(at_once)
    rows = matrix.split(at_once)
    parts = [
        compress(Problem(target=Target(matrix=own, gram=gram), row_curvature=curvature), choice)
        for own, curvature in zip(rows, curvatures or [None] * len(rows), strict=True)
    ]
    return Compressed(
        values=torch.cat([part.values for part in parts]),
        scale=_joined([part.scale for part in parts]),
        mask=_joined([part.mask for part in parts]),
        moved=_joined([part.moved for part in parts]),
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None
