"""The parts of an operator's latency, against its figures divided by the device's rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.work.features import Preset
from paredown.hardware_models.work.workload import OperatorWork, Work, read_work
from paredown.spaces.capture.capturing import capture

X86 = load_device("x86-avx512-vnni-ort")


def convolution(channels: int) -> OperatorWork:
    elements = channels * 16 * 16
    return OperatorWork(
        name="conv",
        kind="conv",
        macs=elements * channels * 9,
        in_channels=channels,
        out_channels=channels,
        kernel_size=(3, 3),
        input_elements=elements,
        output_elements=elements,
        weight_count=channels * channels * 9,
        out_spatial=16 * 16,
    )


def test_parts_of_operators_seen_before_are_those_of_the_device_asked():
    ops = [convolution(64), replace(convolution(64), name="again"), convolution(32)]
    work = Work(operators=tuple(ops))
    fast = X86.float32.conv_macs_per_s
    float32 = X86.float32.model_copy(
        update={"conv_macs_per_s": fast.model_copy(update={"value": fast.value / 2})}
    )
    slower = X86.model_copy(update={"float32": float32})
    for _ in range(2):
        for device, factor in ((X86, 1), (slower, 2)):
            first, again, other = Preset(device).operators_s(work)
            assert first == again
            expected = factor * Preset(X86).total_s(Work(operators=(ops[0],)))["conv_macs"]
            assert first["conv_macs"] == pytest.approx(expected)
            assert other["conv_macs"] < first["conv_macs"]


def test_sequences_pay_for_the_two_dimensions_of_a_gemm():
    row = OperatorWork(name="l", kind="linear", in_channels=64, out_channels=64, weight_count=4096)
    tokens = replace(row, out_spatial=8)
    codes = replace(tokens, integer=True, activation_bits=8, onnx_type="int8")
    networks = [Work(operators=(op,)) for op in (row, tokens, codes)]
    parts = [Preset(X86).total_s(work)["sequence_calls"] for work in networks]
    assert parts[0] == 0.0
    assert parts[1] == parts[2] > 0


def test_weights_from_afar_are_a_part_of_their_own_however_much_is_computed():
    macs = 64 * 1024 * 1024
    layer = OperatorWork(
        name="l", kind="linear", macs=macs, in_channels=1024, out_channels=1024,
        weight_count=2**20, out_spatial=64,
    )  # fmt: skip
    near, far = (Preset(X86).operators_s(Work(operators=(layer,)), at)[0] for at in (0, 1))
    assert far["linear_macs"] == near["linear_macs"]
    rate = X86.memory.levels[1].bytes_per_s.value
    assert far["hidden_weight_traffic"] == pytest.approx(4 * 2**20 / rate)
    assert "hidden_weight_traffic" not in near


def test_an_attention_costs_calls_by_the_head():
    one, four = (
        OperatorWork(name="a", kind="attention", in_channels=heads, batch=2) for heads in (1, 4)
    )
    parts = [Preset(X86).total_s(Work(operators=(op,))) for op in (one, four)]
    assert parts[1]["attention_heads"] == pytest.approx(4 * parts[0]["attention_heads"])
    assert parts[1]["attention_calls"] == parts[0]["attention_calls"]


def test_an_attention_pays_for_every_score(blueprint_of):
    class Attention(torch.nn.Module):
        def forward(self, q, k, v):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    query, other = torch.randn(1, 3, 6, 8), torch.randn(1, 3, 10, 8)
    captured = capture(Attention(), (query, other, other))
    (op,) = [o for o in read_work(blueprint_of(captured)).operators if o.macs]
    found = Preset(X86).total_s(Work(operators=(op,)))["attention_softmax"]
    assert found == pytest.approx(3 * 6 * 10 * X86.elements.softmax_s.value)
