"""Linear and recurrent layers over steps get the kernels that are promised, whichever axes are free."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import (
    fallbacks,
    integer_kernels,
    promised_kernels,
    promises,
)
from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.work.workload import read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map


def fallen(blueprint, proto):
    return {str(f) for f in fallbacks(proto.SerializeToString(), promises(blueprint))}


class Pooled(nn.Module):
    """Linear layers over steps, behind a clamp and behind a sum over all steps."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(32, 64, bias), nn.Linear(64, 32, bias)
        self.pooled, self.head = nn.Linear(32, 16, bias), nn.Linear(16, 8, bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(nn.functional.gelu(self.wide(x))) + x
        y = torch.relu(self.pooled(y)).mean(1, keepdim=True)
        return self.head(torch.tanh(y))


def with_free_axes(network, x, lengths, any_batch, ranges):
    """Blueprint with 8 bits everywhere, and its file."""
    captured = capture(network.eval(), x, lengths)
    captured = replace(captured, graph=replace(captured.graph, any_batch=any_batch))
    model_map = read_model_map(captured)
    choice = SegmentChoice(activation_bits=8, ranges=ranges)
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=8) for layer in model_map.layers},
        segments={each.name: choice for each in model_map.segments},
    )
    blueprint = draft(model_map, candidate)
    return blueprint, lower(imagine(blueprint, seed=0))


@pytest.mark.parametrize("lengths", [None, (2, 16)], ids=["", "any time"])
@pytest.mark.parametrize("any_batch", [False, True], ids=["", "any batch"])
@pytest.mark.parametrize("ranges", ["static", "dynamic"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_linear_layers_over_steps_keep_their_promise_whichever_axes_are_free(
    lengths, any_batch, ranges, bias
) -> None:
    x = torch.zeros(1, 8, 32)
    blueprint, file = with_free_axes(Pooled(bias), x, lengths, any_batch, ranges)
    promised = promises(blueprint)
    assert promised_kernels(blueprint) == integer_kernels(file.SerializeToString())
    assert fallbacks(file.SerializeToString(), promised) == ()
    # A product without a bias sees no codes behind a clamp.
    runs_in_floats = {"pooled"} if ranges == "static" and not bias else set()
    layers = {"wide", "narrow", "pooled", "head"}
    assert {each.layer for each in promised} & layers == layers - runs_in_floats
    priced = {op.layer for op in read_work(blueprint).operators if op.integer}
    assert priced & layers == layers - runs_in_floats


class Listening(nn.Module):
    """A recurrent network's states, read by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


@pytest.mark.parametrize("lengths", [None, (2, 16)], ids=["", "any time"])
@pytest.mark.parametrize("any_batch", [False, True], ids=["", "any batch"])
def test_an_lstm_that_finds_its_ranges_is_promised_its_kernel(lengths, any_batch) -> None:
    x = torch.zeros(1, 8, 16)
    blueprint, file = with_free_axes(Listening(), x, lengths, any_batch, "dynamic")
    expected = Counter(DynamicQuantizeLSTM=4, DynamicQuantizeMatMul=1)
    assert promised_kernels(blueprint) == expected
    assert integer_kernels(file.SerializeToString()) == expected
    assert fallbacks(file.SerializeToString(), promises(blueprint)) == ()


def test_an_lstm_that_runs_as_another_operator_is_caught_by_the_name_of_its_layer() -> None:
    x = torch.zeros(1, 8, 16)
    blueprint, file = with_free_axes(Listening(), x, None, False, "dynamic")
    steps = next(node for node in file.graph.node if node.op_type == "DynamicQuantizeLSTM")
    floats = [
        numpy_helper.from_array(np.zeros((1, 128, n), np.float32), f"m{n}") for n in (16, 32)
    ]
    file.graph.initializer.extend(floats)
    steps.op_type, steps.domain = "LSTM", ""
    read = [steps.input[0], "m16", "m32", *steps.input[3:5]]
    del steps.input[:]
    steps.input.extend(read)
    expected = "lstm.weight_hh_l0 runs as LSTM, promised was DynamicQuantizeLSTM"
    assert fallen(blueprint, file) == {expected}
