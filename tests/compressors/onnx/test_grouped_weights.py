"""Linear layers with scales of groups: both files to the byte, and ONNX Runtime beside our own run."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import integer_kernels, promised_kernels, session
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.packing import PackingError, read_packed, write_packed
from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.work.alignment import held_bits
from paredown.hardware_models.work.workload import read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map

X86 = load_device("x86-avx512-vnni-ort")


def mapped(network: nn.Module, example: Tensor) -> ModelMap:
    return read_model_map(capture(network.eval(), example))


@functools.cache
def linear_map(columns: int, rows: int, shape: tuple[int, ...]) -> ModelMap:
    return mapped(nn.Linear(columns, rows), torch.randn(*shape, columns))


def made(blueprint: Blueprint) -> CompressedModel:
    """Random codes with random scales, so that no two groups could be mixed up unseen."""
    model = imagine(blueprint, seed=1)
    generator = torch.Generator().manual_seed(2)
    stored = {
        name: tensor
        if tensor.scale is None
        else replace(tensor, scale=torch.rand(tensor.scale.shape, generator=generator) * 0.02)
        for name, tensor in model.stored.items()
    }
    return replace(model, stored=stored)


def grouped(model_map: ModelMap, bits: int, size: int, container: str = "compact") -> Candidate:
    layers = {
        layer.name: LayerChoice(weight_bits=bits, group_size=size) for layer in model_map.layers
    }
    segments = {s.name: SegmentChoice(container=container) for s in model_map.segments}
    return Candidate.of(layers=layers, segments=segments)


def outputs(model: CompressedModel, example: Tensor) -> tuple[Tensor, Tensor]:
    """Of our own run and of ONNX Runtime."""
    runtime = session(lower(model).SerializeToString(), exact=True)
    (theirs,) = runtime.run(None, {model.blueprint.graph.inputs[0]: example.numpy()})
    with torch.no_grad():
        (ours,) = model([example])
    return ours, torch.from_numpy(theirs)


def optimised(model: CompressedModel, folder: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    content = lower(model).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def check_both_files(model: CompressedModel, folder: Path) -> None:
    path = folder / "model.safetensors"
    write_packed(path, model.stored)
    assert path.stat().st_size == packed_file_bytes(model.blueprint)
    for name, tensor in read_packed(path).items():
        assert tensor.storage == model.stored[name].storage
        assert torch.equal(tensor.dense(), model.stored[name].dense())
    assert len(lower(model).SerializeToString()) == onnx_file_bytes(model.blueprint)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("size", "block"), [(32, 32), (128, 128), (0, 128)])
@pytest.mark.parametrize(
    ("columns", "shape"), [(1024, (1,)), (1037, (1, 3))], ids=["row", "tokens, odd"]
)
def test_few_rows_of_many_weights_are_read_in_the_kernel_s_own_blocks(
    bits: int, size: int, block: int, columns: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    example = torch.randn(*shape, columns, generator=torch.Generator().manual_seed(0))
    model_map = linear_map(columns, 512, shape)
    model = made(draft(model_map, grouped(model_map, bits, size)))
    ours, theirs = outputs(model, example)
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(ours.abs().max())
    nodes = optimised(model, tmp_path).graph.node
    (kernel,) = (node for node in nodes if node.op_type == "MatMulNBits")
    facts = {a.name: a.i for a in kernel.attribute}
    assert facts["block_size"] == block
    assert "DequantizeLinear" not in {node.op_type for node in nodes}
    check_both_files(model, tmp_path)


@pytest.mark.parametrize(
    ("bits", "container"),
    [(2, "compact"), (3, "compact"), (4, "compact"), (8, "compact"), (4, "fast")],
)
@pytest.mark.parametrize(("columns", "size"), [(96, 32), (101, 32), (129, 64)])
@pytest.mark.parametrize("shape", [(2,), (1, 7)], ids=["rows", "tokens"])
def test_elsewhere_they_are_floats_once_loaded(
    bits: int, size: int, columns: int, shape: tuple[int, ...], container: str, tmp_path: Path
) -> None:
    example = torch.randn(*shape, columns, generator=torch.Generator().manual_seed(0))
    model_map = linear_map(columns, 30, shape)
    model = made(draft(model_map, grouped(model_map, bits, size, container)))
    ours, theirs = outputs(model, example)
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(ours.abs().max())
    kinds = {node.op_type for node in optimised(model, tmp_path).graph.node}
    assert kinds <= {"Gemm", "FusedGemm", "MatMul", "Add", "FusedMatMul", "Reshape"}
    check_both_files(model, tmp_path)


class Mixed(nn.Module):
    """Linear layers around one whose rows have several scales; a ReLU may follow it.

    The first has a ReLU, so that its result is codes for the middle one too, whatever that reads.
    """

    def __init__(self, columns: int, is_rectified: bool) -> None:
        super().__init__()
        self.first = nn.Linear(40, columns)
        self.middle = nn.Linear(columns, columns)
        self.last = nn.Linear(columns, 10)
        self.between = nn.ReLU() if is_rectified else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.middle(self.first(x).relu())))


@functools.cache
def mixed_map(columns: int, is_rectified: bool, shape: tuple[int, ...]) -> ModelMap:
    return mapped(Mixed(columns, is_rectified), torch.rand(*shape, 40))


@pytest.mark.parametrize("columns", [50, 740], ids=["few weights", "many weights"])
@pytest.mark.parametrize("is_rectified", [True, False])
@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("shape", [(1,), (1, 3)], ids=["row", "tokens"])
def test_a_float_layer_that_reads_codes_stays_float(
    columns: int, is_rectified: bool, bits: int, shape: tuple[int, ...]
) -> None:
    example = torch.rand(*shape, 40, generator=torch.Generator().manual_seed(0))
    model_map = mixed_map(columns, is_rectified, shape)
    segment_of = model_map.segment_of_node
    own = segment_of[model_map.layer_by_name["middle"].node]
    segments = {s.name: SegmentChoice(activation_bits=8) for s in model_map.segments}
    segments[own] = SegmentChoice()
    layers = {layer.name: LayerChoice(weight_bits=8) for layer in model_map.layers}
    layers["middle"] = LayerChoice(weight_bits=bits, group_size=32)
    blueprint = draft(model_map, Candidate.of(layers=layers, segments=segments))
    assert blueprint.storage["middle.weight"].group_size == 32
    assert blueprint.storage["last.weight"].group_size == 0

    middle = next(op for op in read_work(blueprint).operators if op.layer == "middle")
    assert not middle.integer
    assert middle.activation_bits == 8
    assert held_bits(middle, X86) == 32
    model = made(blueprint)
    content = lower(model).SerializeToString()
    assert integer_kernels(content) == promised_kernels(blueprint)
    ours, theirs = outputs(model, example)
    spread = float(ours.max() - ours.min())
    assert float((ours - theirs).abs().mean()) <= 0.02 * spread


def test_scales_of_another_shape_are_refused(tmp_path: Path) -> None:
    model_map = linear_map(96, 8, (1,))
    model = imagine(draft(model_map, grouped(model_map, 4, 32)), seed=1)
    wrong = {
        name: replace(tensor, scale=None if tensor.scale is None else torch.ones(8, 2))
        for name, tensor in model.stored.items()
    }
    with pytest.raises(PackingError, match="'scale'"):
        write_packed(tmp_path / "model.safetensors", wrong)
