"""The work of recurrent layers: products over inputs at once, products over the state step by step."""

import pytest
import torch
from torch import nn

from paredown.hardware_models.devices import load_device
from paredown.hardware_models.work import Preset, read_work
from paredown.spaces.candidates import Candidate, LayerChoice, SegmentChoice, draft
from paredown.spaces.capture import capture
from paredown.spaces.structure import read_model_map

TIME, INPUTS, UNITS, GATES = 9, 5, 8, 4


@pytest.fixture(scope="module")
def model_map():
    return read_model_map(
        capture(nn.LSTM(INPUTS, UNITS, batch_first=True), torch.randn(1, TIME, INPUTS))
    )


def work(model_map, bits: int, ranges: str = "static"):
    width = 8 if ranges == "dynamic" else 32
    return read_work(
        draft(
            model_map,
            Candidate.of(
                layers={layer.name: LayerChoice(weight_bits=bits) for layer in model_map.layers},
                segments={
                    s.name: SegmentChoice(activation_bits=width, ranges=ranges)
                    for s in model_map.segments
                },
            ),
        )
    )


def test_macs_are_those_of_both_matrices_at_every_step(model_map) -> None:
    found = {op.kind: op.macs for op in work(model_map, 32).operators if op.macs}
    assert found == {
        "gates": TIME * GATES * UNITS * INPUTS,
        "recurrent": TIME * GATES * UNITS * UNITS,
    }


def test_an_lstm_computes_on_codes_where_both_matrices_are_codes(model_map) -> None:
    kinds = ("gates", "recurrent")
    for ranges, bits, is_integer in (
        ("dynamic", 8, True),
        ("dynamic", 32, False),
        ("static", 8, False),
    ):
        found = [op.integer for op in work(model_map, bits, ranges).operators if op.kind in kinds]
        assert found == [is_integer, is_integer]


def test_steps_take_as_long_each_however_many(model_map) -> None:
    device = load_device("x86-avx512-vnni-ort")
    longer = read_model_map(
        capture(nn.LSTM(INPUTS, UNITS, batch_first=True), torch.randn(1, 3 * TIME, INPUTS))
    )
    short, long = (Preset(device).total_s(work(m, 32)) for m in (model_map, longer))
    for part in ("steps", "step_outputs"):
        assert long[part] == pytest.approx(3 * short[part])
    assert (
        long["recurrent_calls"] == short["recurrent_calls"] == 2 * device.overheads.other_s.value
    )


def test_a_step_reads_all_its_weights_and_shares_of_a_call(model_map) -> None:
    device = load_device("x86-avx512-vnni-ort")
    parts = Preset(device).total_s(work(model_map, 32))
    weights_s = GATES * UNITS * UNITS * 4 / device.memory.levels[0].bytes_per_s.value
    assert parts["step_traffic"] == pytest.approx(0.8 * TIME * weights_s)
    assert parts["steps"] == pytest.approx(0.2 * TIME * device.overheads.other_s.value)
