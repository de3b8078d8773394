"""Rules of ONNX Runtime's weights, by hand and against its own counters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.memory.measured_memory import measure_memory
from paredown.hardware_models.memory.weight_memory import weight_memory_bytes
from paredown.hardware_models.work.workload import OperatorWork, Work, read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

X86 = load_device("x86-avx512-vnni-ort")
WIDE = 1024  # x WIDE weights are enough for the runtime to read them narrow, at up to four rows


def memory(**facts: object) -> int:
    given = {"name": "layer", "weight": "layer.weight", **facts}
    return weight_memory_bytes(Work(operators=(OperatorWork(**given),)), X86)  # type: ignore[arg-type]


def linear(rows: int, **facts: object) -> int:
    count = WIDE * WIDE
    shapes = {"out_channels": WIDE, "weight_count": count, "output_elements": rows * WIDE}
    return memory(kind="linear", **shapes, **facts)


@pytest.mark.parametrize(
    ("kind", "integer", "expected"),
    [
        ("conv", False, 4 * 32 * 27),  # 20 channels lie in two blocks of 16
        ("conv", True, 32 * (27 + 4)),
        ("depthwise_conv", False, 4 * 32 * 27),
        ("depthwise_conv", True, 20 * 27),
        ("conv_transpose", False, 4 * 20 * 27),
        ("embedding", False, 4 * 20 * 27),
        ("embedding", True, 20 * 27),  # rows are picked of codes
    ],
)
def test_outputs_are_padded_as_the_kernel_wants_them(
    kind: str, integer: bool, expected: int
) -> None:
    onnx_type = "int8" if integer else "float32"
    facts = {"out_channels": 20, "weight_count": 20 * 27, "onnx_type": onnx_type}
    assert memory(kind=kind, integer=integer, **facts) == expected


def test_narrow_weights_are_floats_once_loaded_unless_a_kernel_reads_them() -> None:
    assert linear(1) == linear(64) == linear(64, onnx_type="int4") == 4 * WIDE**2
    blocks = WIDE**2 // 128
    for bits in (2, 4, 8):
        assert linear(4, onnx_type=f"int{bits}") == WIDE**2 * bits // 8 + 12 * blocks
    assert linear(5, onnx_type="int4") == 4 * WIDE**2


@pytest.mark.parametrize("size", [32, 64, 128])
def test_scales_of_groups_are_the_blocks_of_the_kernel(size: int) -> None:
    blocks = WIDE**2 // size
    grouped = {"onnx_type": "int4", "group_size": size}
    assert linear(1, **grouped) == WIDE**2 // 2 + 12 * blocks
    assert linear(64, **grouped) == linear(1, **grouped, activation_bits=8) == 4 * WIDE**2


@pytest.mark.parametrize("onnx_type", ["int2", "int4", "int8"])
def test_beside_codes_every_weight_is_a_byte(onnx_type: str) -> None:
    codes = linear(64, onnx_type=onnx_type, integer=True, activation_bits=8)
    assert codes == WIDE * (WIDE + 4)
    between = {"onnx_type": onnx_type, "activation_bits": 8}
    assert memory(kind="conv_transpose", out_channels=3, weight_count=99, **between) == 99


def test_a_weight_of_two_layers_counts_once() -> None:
    facts = {"kind": "conv", "out_channels": 16, "weight_count": 160}
    one, again, other = (
        OperatorWork(name=name, weight=weight, **facts)  # type: ignore[arg-type]
        for name, weight in (("a", "x"), ("b", "x"), ("c", "y"))
    )
    both, three = (
        weight_memory_bytes(Work(operators=ops), X86)
        for ops in ((one, again), (one, again, other))
    )
    assert (both, three) == (640, 1280)


def in_memory(
    network: nn.Module, example: torch.Tensor, bits: int, activation_bits: int
) -> Blueprint:
    model_map = read_model_map(capture(network.eval(), example))
    layers = {layer.name: LayerChoice(weight_bits=bits) for layer in model_map.layers}
    how = SegmentChoice(activation_bits=activation_bits)
    return draft(
        model_map, Candidate.of(layers=layers, segments={s.name: how for s in model_map.segments})
    )


@pytest.mark.parametrize(("into", "out"), [(64, 64), (65, 33), (256, 512), (512, 100)])
@pytest.mark.parametrize(("bits", "activation_bits"), [(32, 32), (4, 32), (8, 8), (4, 8)])
def test_matrices_take_what_the_runtime_counts(
    into: int, out: int, bits: int, activation_bits: int
) -> None:
    """Its counters know what is packed when a session is made: matrices, but no convolutions."""
    blueprint = in_memory(nn.Linear(into, out), torch.randn(1, into), bits, activation_bits)
    counted = measure_memory(lower(imagine(blueprint, seed=0)).SerializeToString()).prepacked_bytes
    predicted = weight_memory_bytes(read_work(blueprint), X86)
    # Biases and scales are counted as well; some processors pad the inputs of codes to 64.
    padded = predicted if activation_bits == 32 else predicted * (-(-into // 64) * 64) / into
    assert predicted <= counted <= padded + 8 * out + 64
