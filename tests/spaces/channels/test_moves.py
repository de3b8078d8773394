"""Views keep, split and merge channels as the entries lie in memory."""

from __future__ import annotations

import pytest
import torch

from paredown.spaces.channels.moves import view
from paredown.spaces.channels.parts import Part, Parts
from paredown.spaces.channels.ties import Layout, Ties
from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.structure.slicing import kept_positions


def seen(old: tuple[int, ...], layout: Layout, new: tuple[int, ...]) -> tuple[Ties, Layout | None]:
    """What is known after a view of an input of one shape as another."""
    node = Node(name="view", op="aten.view.default", args=(Ref("x"), new), shape=new)
    graph = Graph(
        nodes=(node,),
        inputs=("x",),
        input_shapes=(old,),
        input_dtypes=("float32",),
        outputs=("view",),
        output_keys=("",),
    )
    ties = Ties(graph, {})
    ties.open("g")
    ties.layouts["x"] = layout
    return ties, view(ties, node)


@pytest.mark.parametrize(
    ("old", "dim", "new", "expected"),
    [
        ((2, 6, 4, 4), 1, (2, 96), Layout(1, (Part("g", 6, 16),))),
        ((2, 5, 12), 2, (10, 12), Layout(1, (Part("g", 12),))),
        ((2, 5, 12), 2, (2, 5, 4, 3), Layout(2, (Part("g", 4),))),
        ((2, 5, 12), 2, (2, 5, 1, 12), Layout(3, (Part("g", 12),))),
        ((5, 2, 12), 2, (5, 8, 3), Layout(1, (Part("g", 4),) * 2)),
        ((2, 4, 5, 3), 1, (2, 4, 15), Layout(1, (Part("g", 4),))),
        ((2, 12, 9), 1, (2, 4, 3, 9), Layout(1, (Part("g", 4),))),
        ((2, 3, 4), 2, (2, 12), Layout(1, (Part("g", 4),) * 3)),
    ],
)
def test_views_tie_what_they_must_and_no_more(
    old: tuple[int, ...], dim: int, new: tuple[int, ...], expected: Layout
) -> None:
    ties, found = seen(old, Layout(dim, (Part("g", old[dim]),)), new)
    assert found == expected
    # The entries that stay are the same on both sides.
    keep = {"g": torch.arange(0, expected.parts[0].channels, 2)}

    def marked(shape: tuple[int, ...], place: int, parts: Parts) -> torch.Tensor:
        mask = torch.zeros(shape[place])
        mask[kept_positions(parts, keep)] = 1
        return mask.view(-1, *[1] * (len(shape) - place - 1)).expand(shape)

    before = ties.layouts["x"]
    assert (
        marked(old, before.dim, before.parts)
        .reshape(new)
        .equal(marked(new, expected.dim, expected.parts))
    )


def test_a_view_across_channels_freezes_them() -> None:
    ties, found = seen((2, 8, 36), Layout(1, (Part("g", 8),)), (2, 12, 24))
    assert found is None
    assert "across the channels" in (ties.reason("g") or "")
