"""How zeros may lie in a matrix of weights, and how many weights each pattern leaves.

"element" takes single weights away, "block" runs of `BLOCK` neighbouring columns of a row: both as many
as are asked for, wherever they matter least. "N:M", such as "2:4", keeps N of every M neighbouring
columns of each row, whatever is asked. Columns at the end of a row that fill no block or group of M
stay: how many weights are left must follow from the counts alone, before any weight is looked at.

Columns stand in the weight's own order, kernel positions innermost, so the blocks of a 3x3 convolution
run along positions. Those are zero together more readily than input channels at one position: over
ResNet-20's inner layers half of the blocks gone cost, as shares of the outputs' energy summed, 0.41 by
exact OBS and 1.25 by magnitude, against 0.45 and 1.73 along channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Pattern = Literal["dense", "element", "2:4", "block"]

BLOCK = 4
"""Columns of a block: an index of one bit for four weights, and as many floats as a SIMD register of 128
bits holds."""

UNITS: Mapping[str, int] = {"element": 1, "block": BLOCK}
"""Columns that go at a time, of the patterns that take away as many as are asked for."""


@dataclass(frozen=True)
class Zeros:
    """`share` of the weights set to zero, in [0, 1), lying in `pattern`."""

    share: float = 0.0
    pattern: Pattern = "dense"

    @property
    def text(self) -> str:
        """As people read it.

        >>> Zeros().text, Zeros(0.5, "2:4").text
        ('none', '50% 2:4')
        """
        return f"{self.share:.0%} {self.pattern}" if self.share else "none"


DENSE = Zeros()


def kept_count(rows: int, columns: int, sparsity: float, pattern: str) -> int:
    """Number of weights that stay of a matrix (R, K); `sparsity` is the share of the units that go.

    >>> kept_count(2, 10, 0.5, "block")
    12
    """
    if pattern in UNITS:
        unit = UNITS[pattern]
        # In this order: float products do not associate, and bytes are counted from this formula.
        return rows * columns - unit * round(sparsity * (rows * (columns // unit)))
    keep, of = keep_of(pattern)
    return rows * (columns - columns // of * (of - keep))


def keep_of(pattern: str) -> tuple[int, int]:
    """N and M of a pattern "N:M".

    Raises:
        ValueError: Not of that form.

    >>> keep_of("2:4")
    (2, 4)
    """
    keep, _, of = pattern.partition(":")
    if keep.isdecimal() and of.isdecimal() and 0 < int(keep) < int(of):
        return int(keep), int(of)
    raise ValueError(
        f"pattern must be one of {', '.join(UNITS)} or 'N:M' with N < M, got {pattern!r}; use "
        "'element' or '2:4'"
    )
