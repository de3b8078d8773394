"""Which shares and patterns of zeros are worth a choice: those that some goal feels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from paredown.spaces.candidates.zeros import DENSE, Pattern, Zeros

_HALF = 0.5
"""Share of zeros that "2:4" has, whatever is asked for."""
_RANK = get_args(Pattern).index
"""Patterns are named from the one that harms accuracy least."""


def sparsity_domain(
    shares: Sequence[float],
    patterns: Sequence[Pattern],
    is_felt: Callable[[Pattern], bool],
    leave_out: Callable[[Pattern], None],
) -> tuple[Zeros, ...]:
    """Values of a layer's sparsity knob, fewest zeros first; dense alone where none is left.

    Args:
        shares: Of the weights, as the rules offer them; 0 leaves the layer dense.
        patterns: As the rules offer them.
        is_felt: Whether zeros of this pattern move a goal.
        leave_out: Takes patterns that do not.
    """
    kept = {DENSE} if 0.0 in shares else set()
    for pattern in patterns:
        if not is_felt(pattern):
            leave_out(pattern)
            continue
        for share in shares:
            if share > 0:
                kept.add(Zeros(_HALF if pattern == "2:4" else share, pattern))
    found = sorted(kept, key=lambda value: (value.share, _RANK(value.pattern)))
    return tuple(found) or (DENSE,)
