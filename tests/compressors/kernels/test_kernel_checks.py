"""The runtime gives every kernel that a blueprint promises; a planted fault is seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import (
    fallbacks,
    integer_kernels,
    kernels,
    promised_kernels,
    promises,
    session,
)
from paredown.compressors.models.assembling import assemble
from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.work.alignment import held_bits
from paredown.hardware_models.work.workload import read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft


class Zoo(nn.Module):
    """Branches, products, concatenation, pools and layouts between integer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.right = nn.Conv2d(16, 16, 1)
        self.gate = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(32 * 16, 8)
        self.last = nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem(x))
        x = nn.functional.max_pool2d(x, 2)
        left, right = self.left(x), torch.relu(self.right(x))
        gated = left * torch.sigmoid(self.gate(x))
        y = torch.cat([gated, right], 1)
        y = nn.functional.avg_pool2d(nn.functional.interpolate(y, scale_factor=2.0), 8)
        return self.last(torch.relu(self.head(y.flatten(1))))


def serialised(model) -> bytes:
    return lower(model).SerializeToString()


def test_an_integer_resnet_has_only_integer_kernels(
    resnet_model, with_weights, with_codes
) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(resnet_model, 8, "int8"), x)
    expected = Counter(QLinearConv=7, QLinearAdd=3, QLinearGlobalAveragePool=1, QGemm=1)
    assert promised_kernels(model.blueprint) == expected
    found = kernels(serialised(model))
    assert integer_kernels(serialised(model)) == expected
    assert found["DequantizeLinear"] == 0
    assert found["QuantizeLinear"] == 1
    assert found["Relu"] == 0


def test_a_net_of_many_operators_gets_what_is_promised(identity, with_weights, with_codes) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(identity(Zoo(), x), 8, "int8"), x)
    promised = promised_kernels(model.blueprint)
    assert promised["QLinearConv"] == 3  # the gate ends in a float sigmoid
    assert promised["QGemm"] == 2
    found = integer_kernels(serialised(model))
    assert found >= promised, (found, promised)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 8), (4, 5, 8)])
def test_linear_layers_get_what_is_promised(
    shape, bias, identity, with_weights, with_codes
) -> None:
    x = torch.randn(shape)
    module = nn.Sequential(nn.Linear(8, 16, bias), nn.ReLU(), nn.Linear(16, 3, bias))
    model = with_codes(with_weights(identity(module, x), 8, "int8"), x)
    promised = promised_kernels(model.blueprint)
    assert sum(promised.values()) == 2
    assert integer_kernels(serialised(model)) == promised


def test_a_float_model_is_promised_nothing(resnet_model, with_weights) -> None:
    model = with_weights(resnet_model, 8, "int8")
    assert not promised_kernels(model.blueprint)
    assert not integer_kernels(serialised(model))


@pytest.mark.parametrize(("bits", "onnx_type"), [(4, "int4"), (2, "int2")])
def test_narrow_weights_beside_codes_run_the_kernels_of_int8_on_the_same_codes(
    bits, onnx_type, resnet_model, with_weights, with_codes
) -> None:
    x = torch.randn(2, 3, 32, 32)
    wide = with_codes(with_weights(resnet_model, bits, "int8"), x)
    narrow = with_codes(with_weights(resnet_model, bits, onnx_type), x)
    files = [serialised(wide), serialised(narrow)]
    assert len(files[1]) < len(files[0]) / 1.5
    assert promised_kernels(narrow.blueprint) == promised_kernels(wide.blueprint)
    assert integer_kernels(files[1]) == integer_kernels(files[0])
    assert not fallbacks(files[1], promises(narrow.blueprint))
    found = [session(f).run(None, {narrow.blueprint.graph.inputs[0]: x.numpy()}) for f in files]
    np.testing.assert_array_equal(found[0][0], found[1][0])


@pytest.mark.parametrize(("bits", "onnx_type"), [(8, "int8"), (4, "int4"), (2, "int2")])
def test_weights_alone_are_floats_once_the_model_is_loaded(
    bits, onnx_type, resnet_model, with_weights
) -> None:
    found = kernels(serialised(with_weights(resnet_model, bits, onnx_type)))
    assert found == kernels(serialised(resnet_model))


def test_weights_are_floats_where_codes_come_in_and_floats_go_out(
    identity, with_weights, with_codes
) -> None:
    x = torch.randn(1, 16, 8, 8)
    module = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU())
    model = with_codes(with_weights(identity(module, x), 4, "int4"), x)
    assert not promised_kernels(model.blueprint)
    # The codes that come in are read; no weight is.
    assert kernels(serialised(model))["DequantizeLinear"] == 1


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid])
def test_narrow_weights_are_read_in_front_of_activations_too(
    activation, identity, with_weights
) -> None:
    x = torch.randn(1, 1024)
    module = nn.Sequential(nn.Linear(1024, 512), activation(), nn.Linear(512, 1024))
    found = kernels(serialised(with_weights(identity(module, x), 4, "int4")))
    assert found["MatMulNBits"] == 2
    assert not found["DequantizeLinear"]


@pytest.mark.parametrize(("rows", "width", "kernel"), [
    (1, 1024, "MatMulNBits"), (4, 1024, "MatMulNBits"), (5, 1024, "Gemm"), (1, 64, "Gemm"),
])  # fmt: skip
def test_a_large_linear_layer_with_few_rows_reads_narrow_weights(
    rows, width, kernel, identity, with_weights
) -> None:
    x = torch.randn(rows, width)
    model = with_weights(identity(nn.Linear(width, width // 2), x), 4, "int4")
    assert kernels(serialised(model))[kernel] == 1
    (op,) = read_work(model.blueprint).operators
    bits = held_bits(op, load_device("x86-avx512-vnni-ort"))
    assert bits == (4 if kernel == "MatMulNBits" else 32)


def test_a_lost_output_quantisation_is_seen(resnet_model, with_weights, with_codes) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(resnet_model, 8, "int8"), x)
    promised = promised_kernels(model.blueprint)
    proto = lower(model)
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    relu.op_type = "Elu"  # no integer kernel ends in it
    assert not integer_kernels(proto.SerializeToString()) >= promised


@pytest.fixture(scope="module")
def integer_net(mapped, database):
    """LeNet with 8-bit activations everywhere, calibrated: (blueprint, ONNX model)."""
    model_map = mapped("lenet")
    names = [layer.name for layer in model_map.layers]
    candidate = Candidate.of(
        layers={name: LayerChoice(weight_bits=8) for name in names},
        segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
    )
    compressed = assemble(candidate, database("lenet"))
    return compressed.blueprint, lower(compressed)


def initialiser(proto, name):
    return next(i for i in proto.graph.initializer if i.name == name)


def fallen(blueprint, proto):
    return {str(f) for f in fallbacks(proto.SerializeToString(), promises(blueprint))}


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_on_the_zoo_falls_back_in_silence(zoo_name, seed, mapped, random_candidate):
    candidate = random_candidate(mapped(zoo_name), seed, 8 if seed else None)
    blueprint = draft(mapped(zoo_name), candidate)
    promised = promises(blueprint)
    model = lower(imagine(blueprint, seed)).SerializeToString()
    assert fallbacks(model, promised) == ()
    assert integer_kernels(model) >= promised_kernels(blueprint)
    priced = Counter(op.layer for op in read_work(blueprint).operators if op.integer and op.layer)
    named = {layer.name for layer in mapped(zoo_name).layers}
    assert Counter(p.layer for p in promised if p.layer in named) <= priced
    # More: float layers between codes, which the runtime rounds itself.
    assert priced.total() <= integer_kernels(model).total()


def test_a_bad_bias_scale_is_caught_by_the_name_of_its_layer(integer_net):
    blueprint, sound = integer_net
    proto = onnx.ModelProto.FromString(sound.SerializeToString())
    conv = next(n for n in proto.graph.node if n.op_type == "Conv")
    bias = numpy_helper.to_array(initialiser(proto, conv.input[2]))
    unit = np.full(bias.shape, 1e-4, np.float32)  # any unit but s_x * s_w
    codes = np.rint(bias / unit).astype(np.int32)
    proto.graph.initializer.extend(
        [numpy_helper.from_array(codes, "bad_codes"), numpy_helper.from_array(unit, "bad_scale")]
    )
    read = onnx.helper.make_node(
        "DequantizeLinear", ["bad_codes", "bad_scale"], ["bad_bias"], axis=0
    )
    conv.input[2] = "bad_bias"
    proto.graph.node.insert(0, read)
    assert fallen(blueprint, sound) == set()
    (found,) = fallen(blueprint, proto)
    assert found.startswith("conv1 runs as")


def test_a_zero_point_above_the_least_code_is_caught_by_the_name_of_its_layer(integer_net):
    blueprint, sound = integer_net
    proto = onnx.ModelProto.FromString(sound.SerializeToString())
    relu = [n for n in proto.graph.node if n.op_type == "Relu"][1]
    quantize = next(n for n in proto.graph.node if relu.output[0] in n.input)
    zero = np.asarray(128, np.uint8)
    shared = [n for n in proto.graph.node if quantize.input[2] in n.input]
    proto.graph.initializer.append(numpy_helper.from_array(zero, "middle"))
    for node in shared:
        node.input[2] = "middle"
    (found,) = fallen(blueprint, proto)
    assert found.startswith("conv2 runs as")
