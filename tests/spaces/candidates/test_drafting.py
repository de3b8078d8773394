"""What a candidate makes of a graph: blocks gone, layers split, storage counted."""

from __future__ import annotations

import pytest
import torch

from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import run


def everywhere(model_map, **choice):
    return {layer.name: LayerChoice(**choice) for layer in model_map.layers}


def test_the_identity_changes_nothing(zoo_name, mapped) -> None:
    blueprint = draft(mapped(zoo_name), Candidate())
    assert blueprint.graph == mapped(zoo_name).graph
    assert len(blueprint.operators) == len(mapped(zoo_name).layers)
    assert all(storage.bits == 32 for storage in blueprint.storage.values())


@pytest.mark.parametrize("name", ["resnet_a", "resnet_projection", "resnet20"])
def test_without_its_blocks_a_network_has_only_the_layers_outside(name, mapped, captured) -> None:
    # every block at once: the bypass of most is the output of the block before
    model_map = mapped(name)
    blueprint = draft(model_map, Candidate.of(dropped=tuple(b.name for b in model_map.blocks)))
    inside = {layer for block in model_map.blocks for layer in block.layers}
    left = [layer.name for layer in model_map.layers if layer.name not in inside]
    assert [operator.layer for operator in blueprint.operators] == left
    by_name = blueprint.graph.by_name
    for node in blueprint.graph.nodes:
        if node.op == "aten.relu.default":
            assert by_name[node.inputs[0]].op != "aten.relu.default"
    inputs = [torch.randn(shape) for shape in model_map.graph.input_shapes]
    (output,) = run(blueprint.graph, captured(name).tensors, inputs)
    assert output.shape == model_map.graph.shape_of(model_map.graph.outputs[0])


def test_fewer_bits_never_cost_more_bytes(zoo_name, mapped) -> None:
    model_map = mapped(zoo_name)
    for segment in (SegmentChoice(), SegmentChoice(activation_bits=8)):
        segments = {s.name: segment for s in model_map.segments}
        costs = [
            (packed_file_bytes(blueprint), onnx_file_bytes(blueprint))
            for bits in (1, 2, 3, 4, 5, 6, 8)
            for blueprint in [
                draft(
                    model_map,
                    Candidate.of(
                        layers=everywhere(model_map, weight_bits=bits), segments=segments
                    ),
                )
            ]
        ]
        assert [packed for packed, _ in costs] == sorted(packed for packed, _ in costs)
        assert [onnx for _, onnx in costs] == sorted(onnx for _, onnx in costs)


def test_an_index_is_written_only_where_it_pays(mapped) -> None:
    model_map = mapped("lenet")

    def storage(sparsity):
        choice = LayerChoice(weight_bits=4, zeros=Zeros(sparsity, "element"))
        return draft(model_map, Candidate.of(layers={"fc1": choice})).storage["fc1.weight"]

    # a bit a weight for the bitmap: at 4 bits it pays from a quarter of zeros on
    assert storage(0.2).index == "none"
    assert storage(0.3).index == "bitmap"
    assert storage(0.3).kept == storage(0.3).count - round(0.3 * storage(0.3).count)


def test_the_index_follows_from_pattern_and_share(mapped) -> None:
    model_map = mapped("lenet")

    def storage(sparsity, pattern):
        choice = LayerChoice(weight_bits=4, zeros=Zeros(sparsity, pattern))
        return draft(model_map, Candidate.of(layers={"fc1": choice})).storage["fc1.weight"]

    assert storage(0.5, "element").index == "bitmap"
    assert storage(0.98, "element").index == "csr"
    block = storage(0.6, "block")
    rows, columns = block.shape
    assert columns % 4 == 0
    assert (block.index, block.kept) == ("block", block.count - 4 * round(0.6 * block.count / 4))
    assert block.index_bytes == -(-rows * columns // 32)
    # A quarter of the index pays from a quarter of the zeros on.
    assert storage(0.05, "block").index == "none"
    assert storage(0.08, "block").index == "block"


def test_only_8_bit_segments_are_marked(mapped) -> None:
    model_map = mapped("resnet20")
    one = model_map.segments[3]
    blueprint = draft(
        model_map, Candidate.of(segments={one.name: SegmentChoice(activation_bits=8)})
    )
    assert any(node.op == QDQ for node in blueprint.graph.nodes)
    eight = {op.layer for op in blueprint.operators if op.activation_bits == 8}
    assert eight == set(one.layers)


def test_the_compact_container_is_as_narrow_beside_8_bit_activations(mapped) -> None:
    model_map = mapped("resnet20")
    for bits, kind in ((2, "int2"), (3, "int4"), (4, "int4"), (5, "int8")):
        layers = {n.name: LayerChoice(weight_bits=bits) for n in model_map.layers}
        for activation_bits in (8, 32):
            segments = {
                s.name: SegmentChoice(activation_bits=activation_bits) for s in model_map.segments
            }
            found = draft(model_map, Candidate.of(layers=layers, segments=segments))
            assert {found.storage[op.weight].onnx_type for op in found.operators} == {kind}


def test_scales_of_groups_are_counted_with_their_short_last_group(read) -> None:
    model_map = read(torch.nn.Linear(100, 7), torch.randn(1, 100))
    (layer,) = model_map.layers
    for size, groups in ((0, 1), (32, 4), (64, 2), (128, 1)):
        for bits in (2, 3, 8):
            choice = LayerChoice(weight_bits=bits, group_size=size)
            storage = draft(model_map, Candidate.of(layers={layer.name: choice})).storage
            found = storage[layer.weight]
            assert found.scale_count == 7 * groups
            assert found.packed_bytes == -(-700 * bits // 8) + 4 * 7 * groups
    eight = {s.name: SegmentChoice(activation_bits=8) for s in model_map.segments}
    beside = Candidate.of(layers={layer.name: choice}, segments=eight)
    assert draft(model_map, beside).storage[layer.weight].scale_shape == (7,)


def test_each_factor_has_groups_of_its_own_inputs(read) -> None:
    model_map = read(torch.nn.Linear(200, 160), torch.randn(1, 200))
    (layer,) = model_map.layers
    choice = LayerChoice(weight_bits=4, rank=Rank(0.25), group_size=64)
    blueprint = draft(model_map, Candidate.of(layers={layer.name: choice}))
    shapes = [blueprint.storage[op.weight].scale_shape for op in blueprint.operators]
    assert shapes == [(40, 4), (160,)]
