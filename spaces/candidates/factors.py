"""A layer as a chain of thinner operators: the forms it can take, their ranks, shapes and nodes.

All of it follows from the layer's shape and the choice alone, so that a candidate has its structure,
its bytes and its price before anything is solved.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.spaces.candidates.ranks import Decomposition, Rank
from paredown.spaces.graph.graph import Arg, Node, Ref
from paredown.spaces.graph.names import CONV2D, LINEAR
from paredown.spaces.structure.model_map import Layer

_FACTORIZABLE = ("linear", "conv2d")
"""Kinds of layers that can become several operators of low rank."""

_ORDINALS = ("first", "second", "third")
"""What the weights of a chain are called; no form is longer."""
_INNER = re.compile(r"\.inner\d*$")

_Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Link:
    """One operator of a chain.

    `shape` is its weight's (out, in, kernel...). `axes` are the spatial axes along which it has the
    layer's kernel, stride, padding and dilation; along the others it is pointwise.
    """

    shape: _Shape
    axes: tuple[int, ...]


Chain = tuple[Link, ...]


def factor_chain(layer: Layer, shape: _Shape, rank: Rank) -> Chain:
    """The operators that a layer of this weight shape becomes; a single one where it stays whole.

    It does where it cannot be factorised (embeddings, grouped and transposed convolutions) and where
    the factors would hold as many weights as the layer itself.

    Args:
        shape: Of the weight, after narrowing.
        rank: What is asked for; see `form_of` for its form.
    """
    whole = (Link(shape=shape, axes=tuple(range(len(shape) - 2))),)
    if rank.share >= 1 or not is_factorizable(layer):
        return whole
    form = form_of(layer, rank.form)
    shares = (rank.share, rank.share if rank.written_share is None else rank.written_share)
    # A form of one rank has no use for the second share.
    pairs = zip(shares, full_ranks(form, shape), strict=False)
    chain = chain_at(form, shape, [max(1, round(share * full)) for share, full in pairs])
    return chain if weight_count(chain) < weight_count(whole) else whole


def is_factorizable(layer: Layer) -> bool:
    """Whether the layer can become several operators of low rank; a table that is looked up cannot."""
    return layer.kind in _FACTORIZABLE and layer.groups == 1 and not layer.lookups


def form_of(layer: Layer, decomposition: Decomposition) -> Decomposition:
    """The form a layer takes when asked for this one: "channel" where the kernel leaves no other."""
    kernel = layer.weight_shape[2:] if layer.kind == "conv2d" else ()
    has_form = {
        "channel": True,
        "spatial": len(kernel) == 2 and min(kernel) > 1,
        "tucker": math.prod(kernel) > 1,
    }
    return decomposition if has_form[decomposition] else "channel"


def weight_count(chain: Chain) -> int:
    """Weights that the operators hold together."""
    return sum(math.prod(link.shape) for link in chain)


def full_ranks(form: Decomposition, shape: _Shape) -> tuple[int, ...]:
    """The ranks at which a form can be any weight of this shape: one, or for "tucker" two.

    >>> full_ranks("tucker", (32, 16, 3, 3)), full_ranks("spatial", (32, 16, 3, 3))
    ((16, 32), (48,))
    """
    out, inputs, *kernel = shape
    reach = math.prod(kernel)
    if form == "channel":
        return (min(out, inputs * reach),)
    if form == "spatial":
        return (min(inputs * kernel[0], out * kernel[1]),)
    return min(inputs, out * reach), min(out, inputs * reach)


def chain_at(form: Decomposition, shape: _Shape, ranks: Sequence[int]) -> Chain:
    """The operators of a form at these ranks, as many as `full_ranks` has."""
    return _CHAINS[form](shape, *ranks)


def weights_at(form: Decomposition, shape: _Shape, *ranks: Any) -> Any:
    """`weight_count` of a form at these ranks, numbers or arrays of them.

    >>> weights_at("tucker", (32, 16, 3, 3), 4, 8), weights_at("channel", (32, 16, 3, 3), 4)
    (608, 704)
    """
    out, inputs, *kernel = shape
    reach = math.prod(kernel)
    if form == "channel":
        return ranks[0] * (inputs * reach + out)
    if form == "spatial":
        return ranks[0] * (inputs * kernel[0] + out * kernel[1])
    read, written = ranks
    return read * inputs + read * written * reach + written * out


def _channel(shape: _Shape, rank: int) -> Chain:
    """The whole kernel to `rank` channels, then pointwise."""
    axes = tuple(range(len(shape) - 2))
    return (
        Link(shape=(rank, *shape[1:]), axes=axes),
        Link(shape=(shape[0], rank, *(1,) * len(axes)), axes=()),
    )


def _spatial(shape: _Shape, rank: int) -> Chain:
    """Down, then to the right: Jaderberg et al. 2014, arXiv:1405.3866, scheme 2."""
    out, inputs, height, width = shape
    return (
        Link(shape=(rank, inputs, height, 1), axes=(0,)),
        Link(shape=(out, rank, 1, width), axes=(1,)),
    )


def _tucker(shape: _Shape, read: int, written: int) -> Chain:
    """Fewer channels, the kernel between them, and back: Kim et al. 2015, arXiv:1511.06530."""
    out, inputs, *kernel = shape
    written = min(written, read * math.prod(kernel))
    return (
        Link(shape=(read, inputs, 1, 1), axes=()),
        Link(shape=(written, read, *kernel), axes=(0, 1)),
        Link(shape=(out, written, 1, 1), axes=()),
    )


_CHAINS: Mapping[Decomposition, Callable[..., Chain]] = {
    "channel": _channel,
    "spatial": _spatial,
    "tucker": _tucker,
}


def split_node(node: Node, source: _Shape, layer: Layer, chain: Chain) -> tuple[Node, ...]:
    """The layer's node as one node for each link; the last keeps its name, its bias and its output.

    Args:
        source: Shape of the value that the node reads.
    """
    found: list[Node] = []
    value, sizes = node.args[0], source[2:]
    for index, link in enumerate(chain):
        is_last = index == len(chain) - 1
        name = node.name if is_last else inner_node(node.name, index)
        if layer.kind == "linear":
            op = (
                node.op if is_last else LINEAR
            )  # the last one's result are the gates, where it has any
            window, shape = (), (*node.shape[:-1], link.shape[0])
        else:
            op, window = _window(node, link)
            sizes = tuple(
                node.shape[2 + axis] if axis in link.axes else size
                for axis, size in enumerate(sizes)
            )
            shape = (node.shape[0], link.shape[0], *sizes)
        bias = node.args[2] if is_last else None
        args = (value, Ref(factor_weight(layer, chain, index)), bias, *window)
        found.append(Node(name=name, op=op, args=args, shape=shape))
        value = Ref(name)
    return tuple(found)


def _window(node: Node, link: Link) -> tuple[str, tuple[Arg, ...]]:
    """Operator of a link, and its stride, padding, dilation and groups."""
    count = len(node.shape) - 2
    if not link.axes:
        return CONV2D, ((1,) * count, (0,) * count, (1,) * count, 1)
    stride, padding, dilation, groups = node.args[3:]

    def _along(given: Arg, otherwise: int) -> tuple[int, ...]:
        each = (given,) * count if isinstance(given, int) else given * (count // len(given))
        return tuple(v if axis in link.axes else otherwise for axis, v in enumerate(each))

    # "same" adds nothing along an axis where the kernel is 1.
    pads = padding if isinstance(padding, str) else _along(padding, 0)
    return node.op, (_along(stride, 1), pads, _along(dilation, 1), groups)


def factor_weight(layer: Layer, chain: Chain, index: int) -> str:
    """Tensor name of a link's weight: the layer's own where it is whole."""
    return layer.weight if len(chain) == 1 else f"{layer.name}.{_ORDINALS[index]}.weight"


def inner_node(node: str, index: int) -> str:
    """Name of the value between link `index` of a layer's chain and the next.

    >>> inner_node("conv", 0), inner_node("conv", 1)
    ('conv.inner', 'conv.inner2')
    """
    return f"{node}.inner{index + 1 if index else ''}"


def outer_node(name: str) -> str:
    """The layer's node that an inner one belongs to; any other name as it is."""
    return _INNER.sub("", name)
