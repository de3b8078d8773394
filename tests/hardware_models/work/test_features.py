"""The parts of a network's latency: named, never negative, and paid for what they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from paredown.hardware_models.devices.device import list_devices, load_device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.work.features import PARTS, latency_parts_s
from paredown.hardware_models.work.workload import OperatorWork, Work, read_work
from paredown.spaces.graph.capturing import capture

X86 = load_device("x86-avx512-vnni-ort")


def convolution(channels: int, integer: bool = False, side: int = 16) -> OperatorWork:
    elements = channels * side * side
    return OperatorWork(
        name="conv",
        kind="conv",
        layer="conv",
        weight="conv.weight",
        macs=elements * channels * 9,
        weight_bits=8 if integer else 32,
        activation_bits=8 if integer else 32,
        onnx_type="int8" if integer else "float32",
        integer=integer,
        in_channels=channels,
        out_channels=channels,
        kernel_size=(3, 3),
        stride=(1, 1),
        input_elements=elements,
        output_elements=elements,
        weight_count=channels * channels * 9,
        out_spatial=side * side,
    )


def test_sequences_pay_for_the_two_dimensions_of_a_gemm():
    row = OperatorWork(name="l", kind="linear", in_channels=64, out_channels=64, weight_count=4096)
    tokens = replace(row, out_spatial=8)
    codes = replace(tokens, integer=True, activation_bits=8, onnx_type="int8")
    networks = [Work(operators=(op,)) for op in (row, tokens, codes)]
    parts = [latency_parts_s(work, X86)["sequence_calls"] for work in networks]
    assert parts[0] == 0.0
    assert parts[1] == parts[2] > 0


def test_an_attention_costs_calls_by_the_head():
    one, four = (
        OperatorWork(name="a", kind="attention", in_channels=heads, batch=2) for heads in (1, 4)
    )
    parts = [latency_parts_s(Work(operators=(op,)), X86) for op in (one, four)]
    assert parts[1]["attention_heads"] == pytest.approx(4 * parts[0]["attention_heads"])
    assert parts[1]["attention_calls"] == parts[0]["attention_calls"]


def test_an_attention_pays_for_every_score(blueprint_of):
    class Attention(torch.nn.Module):
        def forward(self, q, k, v):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    query, other = torch.randn(1, 3, 6, 8), torch.randn(1, 3, 10, 8)
    captured = capture(Attention(), (query, other, other))
    (op,) = [o for o in read_work(blueprint_of(captured)).operators if o.macs]
    found = latency_parts_s(Work(operators=(op,)), X86)["attention_softmax"]
    assert found == pytest.approx(3 * 6 * 10 * X86.elements.softmax_s.value)


def test_the_parts_are_named_and_sum_to_the_latency(captured, blueprint_of):
    work = read_work(blueprint_of(captured))
    for name in list_devices():
        device = load_device(name)
        parts = latency_parts_s(work, device)
        assert tuple(parts) == PARTS
        assert all(value >= 0 for value in parts.values())
        estimate = RooflineLatency(device).predict(work)
        assert estimate.value_s == pytest.approx(sum(parts.values()))
        assert estimate.low_s < estimate.value_s < estimate.high_s


def test_parts_of_networks_side_by_side_add_up_but_for_the_run():
    """Every part is a sum over operators, and one run has its own seconds once."""
    ops = (convolution(32), replace(convolution(64, True), name="other"))
    both = latency_parts_s(Work(operators=ops), X86)
    alone = [latency_parts_s(Work(operators=(op,)), X86) for op in ops]
    for name in PARTS:
        expected = sum(parts[name] for parts in alone)
        if name == "run":
            expected = X86.overheads.run_s.value
        assert both[name] == pytest.approx(expected)


def test_an_aligned_product_is_its_macs_over_the_devices_rate():
    parts = latency_parts_s(Work(operators=(convolution(64),)), X86)
    macs = 64 * 64 * 9 * 16 * 16
    assert parts["conv_macs"] == pytest.approx(macs / X86.float32.conv_macs_per_s.value)
    assert parts["conv_calls"] == X86.overheads.float_conv_s.value
    assert parts["misaligned_macs"] == 0.0


def test_threads_speed_products_up_and_no_call():
    work = Work(operators=(convolution(64),))
    one, two = (latency_parts_s(work, X86, threads) for threads in (1, 2))
    efficiency = X86.runtime.thread_efficiency.value
    assert two["conv_macs"] == pytest.approx(one["conv_macs"] / (1 + efficiency))
    assert two["conv_calls"] == one["conv_calls"]
