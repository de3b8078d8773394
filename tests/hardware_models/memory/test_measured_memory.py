"""ONNX Runtime's counters on models whose memory is known by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.memory import measured_memory
from paredown.hardware_models.memory.measured_memory import CounterError, measure_memory
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.capture.capturing import capture


def test_a_chain_of_sigmoids_holds_its_input_one_buffer_and_the_result(blueprint_of):
    class Chain(nn.Module):
        def forward(self, x):
            return torch.sigmoid(torch.sigmoid(x)) + x

    blueprint = blueprint_of(capture(Chain(), torch.zeros(1, 1000)))
    found = measure_memory(lower(imagine(blueprint, 0)).SerializeToString())
    # The second sigmoid writes over the first; x and the sum are the caller's.
    assert found.peak_bytes == 3 * 4000
    assert found.prepacked_bytes == 0


def test_a_profile_without_counters_is_refused(blueprint_of, monkeypatch):
    blueprint = blueprint_of(capture(nn.Sigmoid(), torch.zeros(1, 8)))
    model = lower(imagine(blueprint, 0)).SerializeToString()
    monkeypatch.setattr(measured_memory, "_COUNTER", "no_such_counter")
    with pytest.raises(CounterError, match="no_such_counter"):
        measure_memory(model)
