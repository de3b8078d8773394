"""The product over the state in a recurrent layer, seen as a linear layer over all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from paredown.spaces.graph.graph import Node
from paredown.spaces.graph.recurrent import states_before


@dataclass(frozen=True, kw_only=True)
class StateProduct:
    """What each step multiplies, and what comes of it.

    `arguments` are those of a linear layer: states (time, batch, units), weight, bias. `output`
    (time, batch, gates x units) is their product. `gates` is what it is added to, of its shape: the loss
    the same gradient by both, but for the new gate of a GRU, where that of the product is smaller by the
    reset gate.
    """

    arguments: tuple[Tensor, Tensor, Tensor | None]
    output: Tensor
    gates: Tensor


def state_product(
    node: Node, arguments: Sequence[Tensor | bool | int | None], output: Tensor | Sequence[Tensor]
) -> StateProduct:
    """Of a recurrent node, from what it was called with and what it gave."""
    position = node.facts.weight
    assert position is not None
    gates, hidden, weight, bias, reverse = (
        arguments[at] for at in (0, 1, position, position + 1, position + 2)
    )
    states = output if isinstance(output, Tensor) else output[0]
    assert isinstance(gates, Tensor)
    assert isinstance(weight, Tensor)
    assert not isinstance(hidden, bool | int)
    assert not isinstance(bias, bool | int)
    before = states_before(states.detach(), hidden, bool(reverse))
    return StateProduct(
        arguments=(before, weight, bias), output=F.linear(before, weight, bias), gates=gates
    )
