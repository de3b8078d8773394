"""ONNX Runtime computes whole models in codes as our own run does, or they are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import kernels, session
from paredown.compressors.models.codes import fit_biases
from paredown.compressors.onnx.lowering import lower, plan_of
from paredown.compressors.onnx.plan import ExportError
from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.work.alignment import held_bits
from paredown.hardware_models.work.workload import read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map


def image(channels: int = 4, size: int = 9) -> Tensor:
    return torch.randn(2, channels, size, size)


@pytest.mark.parametrize(("bits", "onnx_type"), [(8, "int8"), (4, "int4"), (2, "int2")])
def test_an_integer_resnet_agrees_with_our_simulation(
    bits, onnx_type, resnet, identity, with_weights, with_codes, run_onnx
) -> None:
    # images of different colours, so that logits differ by more than rounding
    x = torch.randn(200, 3, 32, 32) + 3 * torch.randn(200, 3, 1, 1)
    with torch.no_grad():
        resnet.linear.weight *= 10
    model = with_codes(with_weights(identity(resnet, x), bits, onnx_type), x)
    model = fit_biases(model)  # as every model is that is scored
    (found,), (ours,) = run_onnx(model, x)
    assert float((found.argmax(1) == ours.argmax(1)).float().mean()) >= 0.995
    # codes that lie on the edge between two may fall to either side, and nothing else differs
    assert float((found - ours).abs().mean()) <= 1e-4 * float(ours.abs().max())
    # below what 8 bits themselves change
    step = float((model([x])[0] - identity(resnet, x)([x])[0]).abs().mean())
    assert float((found - ours).abs().mean()) < step


def test_a_two_bit_file_needs_the_opset_that_has_two_bits(resnet_model, with_weights) -> None:
    assert plan_of(with_weights(resnet_model, 4, "int4").blueprint).opset == 21
    assert plan_of(with_weights(resnet_model, 2, "int2").blueprint).opset == 25


def test_a_container_too_narrow_for_its_codes_is_refused(identity, with_weights) -> None:
    model = with_weights(identity(nn.Linear(8, 3), torch.randn(2, 8)), 5, "int4")
    with pytest.raises(ExportError, match="5 bits do not fit into int4"):
        lower(model)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_large_layer_with_its_activation_is_a_float_one_beside_codes(bits: int) -> None:
    network = nn.Sequential(nn.Linear(16, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU())
    x = torch.rand(1, 16)
    model_map = read_model_map(capture(network.eval(), x))
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=bits) for layer in model_map.layers},
        segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
    )
    model = imagine(draft(model_map, candidate), seed=0)
    content = lower(model).SerializeToString()
    found = session(content, exact=True).run(None, {model.blueprint.graph.inputs[0]: x.numpy()})
    with torch.no_grad():
        (ours,) = model([x])
    assert float((torch.from_numpy(found[0]) - ours).abs().mean()) <= 1e-2 * float(ours.max())
    last = next(op for op in read_work(model.blueprint).operators if op.layer == "2")
    assert not last.integer
    assert held_bits(last, load_device("x86-avx512-vnni-ort")) == 32
    # Nothing is left to be widened on every run: the codes that are read are the input's.
    assert kernels(content)["DequantizeLinear"] == 1
