"""Recurrent layers: what each gate reads, and the steps over time that no matrix product can do at once.

A layer of an LSTM, GRU or plain RNN is two matrices. The one over its inputs is an ordinary linear layer
over all steps at once, so it stands in the graph as one; the other, over the state, is read step by step
by the operators of this file. Files hold the two as one operator of the runtime again.

Gates come in torch's order: input, forget, cell, output of an LSTM; reset, update, new of a GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.spaces.graph.functions import quantize_dequantize_by_range

GATES = "paredown.gates"
"""(x, weight, bias): the product over the inputs of all steps at once, (time, batch, gates x units)."""
LSTM = "paredown.lstm_steps"
"""(gates, hidden, cell, weight, bias, reverse, rows) -> (hidden states, last cell state)."""
GRU = "paredown.gru_steps"
"""(gates, hidden, weight, bias, reverse) -> hidden states."""
RNN_TANH = "paredown.rnn_tanh_steps"
RNN_RELU = "paredown.rnn_relu_steps"
"""(gates, hidden, weight, bias, reverse) -> hidden states."""

WEIGHT_ARG: Mapping[str, int] = {LSTM: 3, GRU: 2, RNN_TANH: 2, RNN_RELU: 2}
"""Position of the weight over the state; the bias follows it."""

ROWS = 6
"""Position of `rows` in the arguments of `LSTM`."""


def lstm_steps(
    gates: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    reverse: bool = False,
    rows: int | None = None,
    round_by_range: Callable[[Tensor, int], Tensor] = quantize_dequantize_by_range,
) -> tuple[Tensor, Tensor]:
    """The steps of an LSTM (Hochreiter and Schmidhuber 1997) over what its gates read at each.

    Args:
        gates: (time, batch, 4 x units), the product over the inputs with its bias.
        hidden: State before the first step, (batch, units); None is zero, as for `cell`.
        weight: (4 x units, units), over the state.
        reverse: Whether the last step comes first.
        rows: Where the state is rounded to 8-bit codes by its own range at each step: samples that
            share a range, as they are run at once. None leaves it as it is.
        round_by_range: What rounds it then; training gives one that has a gradient.

    Returns:
        States (time, batch, units) in the order of `gates`, and the cell after the last step.
    """
    units = weight.shape[1]
    h = gates.new_zeros(gates.shape[1], units) if hidden is None else hidden
    c = gates.new_zeros(gates.shape[1], units) if cell is None else cell
    states: list[Tensor] = []
    for read in reversed(gates) if reverse else gates:
        seen = h if rows is None else round_by_range(h, rows)
        i, f, g, o = (read + F.linear(seen, weight, bias)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return _in_order(states, reverse), c


def gru_steps(
    gates: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    reverse: bool = False,
) -> Tensor:
    """The steps of torch's GRU (Cho et al. 2014), whose reset gate acts on the product with the state.

    Args:
        gates: (time, batch, 3 x units).
        weight: (3 x units, units); other arguments and the result as of `lstm_steps`.
    """
    units = weight.shape[1]
    h = gates.new_zeros(gates.shape[1], units) if hidden is None else hidden
    states: list[Tensor] = []
    for read in reversed(gates) if reverse else gates:
        r_in, z_in, n_in = read.chunk(3, dim=1)
        r_state, z_state, n_state = F.linear(h, weight, bias).chunk(3, dim=1)
        update = torch.sigmoid(z_in + z_state)
        new = torch.tanh(n_in + torch.sigmoid(r_in + r_state) * n_state)
        h = new + update * (h - new)
        states.append(h)
    return _in_order(states, reverse)


def rnn_tanh_steps(
    gates: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    reverse: bool = False,
) -> Tensor:
    """The steps of Elman's network: h = tanh(gates + W h + b); shapes as of `gru_steps`, one gate."""
    return _plain_steps(torch.tanh, gates, hidden, weight, bias, reverse)


def rnn_relu_steps(
    gates: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    reverse: bool = False,
) -> Tensor:
    """The same with a ReLU."""
    return _plain_steps(torch.relu, gates, hidden, weight, bias, reverse)


def states_before(states: Tensor, hidden: Tensor | None, reverse: bool) -> Tensor:
    """The state that each step reads, (time, batch, units), of the states that the steps gave."""
    first = torch.zeros_like(states[0]) if hidden is None else hidden.expand_as(states[0])
    if reverse:
        return torch.cat([states[1:], first[None]])
    return torch.cat([first[None], states[:-1]])


def _plain_steps(
    activation: Callable[[Tensor], Tensor],
    gates: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    reverse: bool,
) -> Tensor:
    h = gates.new_zeros(gates.shape[1], weight.shape[1]) if hidden is None else hidden
    states: list[Tensor] = []
    for read in reversed(gates) if reverse else gates:
        h = activation(read + F.linear(h, weight, bias))
        states.append(h)
    return _in_order(states, reverse)


def _in_order(states: list[Tensor], reverse: bool) -> Tensor:
    return torch.stack(states[::-1] if reverse else states)


STEPS: Mapping[str, Callable[..., Tensor | tuple[Tensor, Tensor]]] = {
    LSTM: lstm_steps,
    GRU: gru_steps,
    RNN_TANH: rnn_tanh_steps,
    RNN_RELU: rnn_relu_steps,
}
"""The operators of this file, by the names that graphs know them under."""
