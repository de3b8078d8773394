from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from paredown.hardware_models.work.workload import read_work
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.functions import GETITEM
from paredown.spaces.graph.graph import GraphError, run


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, groups=2, stride=2)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.line = nn.Conv1d(6, 5, 3, padding=1)
        self.head = nn.Linear(5, 7)

    def forward(self, x):
        x = self.up(torch.relu(self.grouped(x)))
        return self.head(self.line(x.flatten(2)).transpose(1, 2))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 16)
        self.into = nn.Linear(16, 48)

    def forward(self, ids):
        q, k, v = self.into(self.words(ids)).split(16, -1)
        first = (q @ k.transpose(1, 2)).softmax(-1) @ v
        one, two, three = q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)
        return first + nn.functional.scaled_dot_product_attention(one, two, three).squeeze(1)


EXAMPLES = {
    "mixed": (Mixed, torch.zeros(2, 4, 9, 9)),
    "attention": (Attention, torch.zeros(2, 5, dtype=torch.long)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_macs_are_half_of_torchs_flops(name, blueprint_of):
    module, example = EXAMPLES[name][0]().eval(), EXAMPLES[name][1]
    # Torch counts fused attention on the CPU as nothing; the plain one is two matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(example)
    work = read_work(blueprint_of(capture(module, example)))
    assert work.macs == counter.get_total_flops() // 2


def test_macs_of_a_residual_network_are_half_of_torchs_flops(captured, blueprint_of):
    graph = captured.graph
    with FlopCounterMode(display=False) as counter:
        run(graph, captured.tensors, [torch.zeros(graph.input_shapes[0])])
    assert read_work(blueprint_of(captured)).macs == counter.get_total_flops() // 2


@pytest.mark.parametrize("name", [*EXAMPLES, "residual"])
def test_work_equals_what_running_the_tensors_shows(
    name, captured, blueprint_of, shapes_by_running
):
    if name != "residual":
        captured = capture(EXAMPLES[name][0](), EXAMPLES[name][1])
    seen = shapes_by_running(captured)
    work = read_work(blueprint_of(captured))
    records = {op.name: op for op in work.operators}
    assert set(records) == {n for n, facts in seen.items() if facts[0] != GETITEM}
    for node, (operator, arguments, output) in seen.items():
        if operator == GETITEM or not isinstance(output, tuple):
            continue
        record = records[node]
        assert record.output_elements == math.prod(output)
        if operator.startswith(("aten.conv2d", "aten.conv1d", "aten.linear")):
            x, weight = arguments[:2]
            assert record.input_elements == math.prod(x)
            assert record.weight_count == math.prod(weight)
            assert record.macs == math.prod(output) * math.prod(weight[1:])
            assert (record.out_channels, record.kernel_size) == (weight[0], weight[2:])
            assert record.out_spatial * record.out_channels * record.batch == math.prod(output)


def test_an_operator_that_is_not_in_the_table_is_refused(captured, blueprint_of):
    blueprint = blueprint_of(captured)
    first, *rest = blueprint.graph.nodes
    graph = replace(blueprint.graph, nodes=(replace(first, op="aten.det.default"), *rest))
    with pytest.raises(GraphError, match=r"aten\.det\.default.*add one to"):
        read_work(replace(blueprint, graph=graph))


def test_integer_kernels_are_seen_where_all_neighbours_have_codes(
    captured, blueprint_of, with_codes
):
    work = read_work(with_codes(blueprint_of(captured, bits=8, onnx_type="int8")))
    layers = [op for op in work.operators if op.layer]
    assert len(layers) == 5
    assert all(op.integer and op.activation_bits == 8 for op in layers)
    edges = [op.kind for op in work.operators if op.kind in ("quantize", "dequantize")]
    assert edges == ["quantize"]  # the network's input; its head writes floats by itself
    assert work.bops == work.macs * 64


def test_a_float_layer_between_integer_ones_pays_two_edges(captured, blueprint_of, with_codes):
    blueprint = blueprint_of(captured, bits=8, onnx_type="int8")
    point = next(op.node for op in blueprint.operators if op.layer == "point")
    work = read_work(with_codes(blueprint, skip=(point,)))
    float_layers = [op.layer for op in work.operators if op.layer and not op.integer]
    # Without codes on its reader, the layer before it has no 8-bit result to write.
    assert float_layers == ["depthwise", "point"]
    kinds = [op.kind for op in work.operators]
    assert kinds.count("quantize") == 2
    assert kinds.count("dequantize") == 1


def test_narrow_weights_beside_codes_are_read_by_integer_kernels(
    captured, blueprint_of, with_codes
):
    works = [
        read_work(with_codes(blueprint_of(captured, bits=4, onnx_type=kind)))
        for kind in ("int4", "int8")
    ]
    narrow, wide = ([op.integer for op in work.operators] for work in works)
    assert narrow == wide
    assert any(narrow)


def test_activations_after_convolutions_are_fused(captured, blueprint_of):
    operators = read_work(blueprint_of(captured)).operators
    assert all(op.fused for op in operators if op.kind in ("activation", "add"))


def test_a_shared_weight_counts_once(blueprint_of):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x)))

    work = read_work(blueprint_of(capture(Shared(), torch.zeros(1, 6))))
    assert work.weight_count == 36
    assert work.macs == 72


def test_the_effort_of_reading_grows_no_faster_than_the_network(
    residual_chain, blueprint_of, with_codes
):
    def calls(blocks):
        """Python calls made in reading a network of so many blocks."""
        captured = residual_chain(blocks, 16)
        blueprint = with_codes(blueprint_of(captured, bits=8, onnx_type="int8"))
        made = []
        sys.setprofile(lambda frame, event, argument: event == "call" and made.append(1))
        try:
            read_work(blueprint)
        finally:
            sys.setprofile(None)
        return len(made)

    assert calls(24) < 2.2 * calls(12)
