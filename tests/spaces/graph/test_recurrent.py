"""The steps of recurrent layers against torch's own modules."""

import pytest
import torch
from torch import nn

from paredown.spaces.graph.functions import quantize_dequantize_by_range
from paredown.spaces.graph.recurrent import (
    gru_steps,
    lstm_steps,
    rnn_relu_steps,
    rnn_tanh_steps,
    states_before,
)

TIME, BATCH, INPUTS, UNITS = 7, 3, 5, 4


@pytest.mark.parametrize("is_given", [False, True])
def test_steps_of_an_lstm_are_torchs(is_given: bool) -> None:
    torch.manual_seed(0)
    module, x = nn.LSTM(INPUTS, UNITS), torch.randn(TIME, BATCH, INPUTS)
    start = torch.randn(2, 1, BATCH, UNITS) if is_given else None
    states, (_, cell) = module(x, None if start is None else tuple(start))
    gates = x @ module.weight_ih_l0.t() + module.bias_ih_l0
    hidden, first = (None, None) if start is None else (start[0, 0], start[1, 0])
    found, last = lstm_steps(gates, hidden, first, module.weight_hh_l0, module.bias_hh_l0)
    torch.testing.assert_close(found, states)
    torch.testing.assert_close(last, cell[0])


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        (nn.GRU(INPUTS, UNITS), gru_steps),
        (nn.RNN(INPUTS, UNITS), rnn_tanh_steps),
        (nn.RNN(INPUTS, UNITS, nonlinearity="relu"), rnn_relu_steps),
    ],
)
def test_steps_of_the_others_are_torchs(module, steps) -> None:
    x, start = torch.randn(TIME, BATCH, INPUTS), torch.randn(1, BATCH, UNITS)
    gates = x @ module.weight_ih_l0.t() + module.bias_ih_l0
    found = steps(gates, start[0], module.weight_hh_l0, module.bias_hh_l0)
    torch.testing.assert_close(found, module(x, start)[0])


def test_backwards_the_last_step_comes_first() -> None:
    module, x = nn.LSTM(INPUTS, UNITS), torch.randn(TIME, BATCH, INPUTS)
    gates = x @ module.weight_ih_l0.t() + module.bias_ih_l0
    found, _ = lstm_steps(gates, None, None, module.weight_hh_l0, module.bias_hh_l0, True)
    torch.testing.assert_close(found, module(x.flip(0))[0].flip(0))


def test_a_rounded_state_is_rounded_at_each_step_over_all_rows() -> None:
    torch.manual_seed(1)
    gates, weight = torch.randn(2, BATCH, 4 * UNITS), torch.randn(4 * UNITS, UNITS)
    found, _ = lstm_steps(gates, None, None, weight, None, rows=BATCH)
    first, cell = lstm_steps(gates[:1], None, None, weight, None)
    seen = quantize_dequantize_by_range(first[0], BATCH)
    second, _ = lstm_steps(gates[1:], seen, cell, weight, None)
    torch.testing.assert_close(found, torch.cat([first, second]))
    assert not torch.equal(found, lstm_steps(gates, None, None, weight, None)[0])


@pytest.mark.parametrize("reverse", [False, True])
def test_each_step_reads_the_state_of_the_one_before(reverse: bool) -> None:
    gates, weight = torch.randn(TIME, BATCH, UNITS), torch.randn(UNITS, UNITS)
    start = torch.randn(BATCH, UNITS)
    states = rnn_tanh_steps(gates, start, weight, None, reverse)
    before = states_before(states, start, reverse)
    torch.testing.assert_close(states, torch.tanh(gates + before @ weight.t()))
