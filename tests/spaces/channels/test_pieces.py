"""Slices and splits take the entries that torch takes."""

from __future__ import annotations

import pytest
import torch

from paredown.spaces.channels.pieces import bounds, piece_sizes
from paredown.spaces.graph.graph import Node, Ref
from paredown.spaces.graph.names import SPLIT, SPLIT_WITH_SIZES
from paredown.spaces.graph.sizes import Size


def node(op: str, *args: object) -> Node:
    return Node(name="cut", op=op, args=(Ref("x"), *args), shape=())


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (2, 5), (-3, 2**63 - 1), (0, -2), (6, 2), (None, 30)]
)
def test_bounds_are_those_of_torch(start: int | None, end: int | None) -> None:
    low, high = bounds(node("aten.slice.Tensor", 0, start, end, 1), 8) or (0, 0)
    assert torch.arange(low, high).equal(torch.arange(8)[start:end])


def test_slices_with_steps_or_of_free_sizes_have_no_bounds() -> None:
    assert bounds(node("aten.slice.Tensor", 0, 0, 8, 2), 8) is None
    assert bounds(node("aten.slice.Tensor", 0, Size.of_batch(), 8, 1), 8) is None


@pytest.mark.parametrize(
    ("op", "given"),
    [(SPLIT, 3), (SPLIT, 4), (SPLIT_WITH_SIZES, (1, 6, 1)), ("aten.chunk.default", 3)],
)
def test_pieces_are_those_of_torch(op: str, given: int | tuple[int, ...]) -> None:
    made = torch.chunk(torch.empty(8), 3) if "chunk" in op else torch.empty(8).split(given)
    assert piece_sizes(node(op, given, 0), 8) == tuple(len(piece) for piece in made)
