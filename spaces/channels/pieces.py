"""What operators that cut a dimension take of it: slices, and the pieces of splits."""

from __future__ import annotations

from paredown.spaces.graph.graph import Node
from paredown.spaces.graph.names import SPLIT, SPLIT_WITH_SIZES


def bounds(node: Node, size: int) -> tuple[int, int] | None:
    """First entry and the one after the last of a slice of a dimension of this size.

    None where it leaves out some between them, or where they follow the sizes of the inputs.
    """
    _, _, start, end, step = node.args
    start = 0 if start is None else start
    end = size if end is None else end
    if not (isinstance(start, int) and isinstance(end, int) and step == 1):
        return None
    low, high, _ = slice(start, end).indices(size)
    return low, max(low, high)


def piece_sizes(node: Node, size: int) -> tuple[int, ...]:
    """Sizes of the pieces that a split or chunk makes of a dimension of this size."""
    given = node.args[1]
    if node.op == SPLIT_WITH_SIZES:
        return tuple(given)
    step = given if node.op == SPLIT else -(-size // given)
    return tuple(min(step, size - start) for start in range(0, size, step))
