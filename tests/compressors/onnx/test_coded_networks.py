"""Calibrated 8-bit networks give in ONNX Runtime what the simulation gives, with the kernels promised."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import (
    fallbacks,
    integer_kernels,
    kernels,
    promised_kernels,
    promises,
    session,
)
from paredown.compressors.layers.database import Database
from paredown.compressors.models.assembling import assemble
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.statistics.ranges import collect_ranges
from paredown.compressors.storage.compressed import CompressedModel
from paredown.hardware_models.work.workload import read_work
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.capture.capturing import as_inputs, capture
from paredown.spaces.structure.reading import read_model_map


def all_8_bit(
    module: nn.Module, batch: object, left_float: tuple[str, ...] = ()
) -> CompressedModel:
    """8-bit weights and static ranges, calibrated on the batch, for runs of one row.

    Segments `left_float` keep float activations.
    """
    captured = capture(module.eval(), batch)
    graph, tensors = captured.graph, captured.tensors
    model_map = read_model_map(captured)
    inputs = as_inputs(graph, batch)
    statistics = collect_statistics(graph, tensors, model_map.layers, [inputs])
    database = Database(model_map, tensors, statistics, collect_ranges(graph, tensors, [inputs]))
    candidate = Candidate.of(
        layers={x.name: LayerChoice(weight_bits=8, method="rtn") for x in model_map.layers},
        segments={
            s.name: SegmentChoice(activation_bits=8)
            for s in model_map.segments
            if s.name not in left_float
        },
    )
    return assemble(candidate, database)


def outputs(model: CompressedModel, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Ours, and those of ONNX Runtime."""
    names = model.blueprint.graph.inputs
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    (found,) = session(lower(model).SerializeToString(), exact=True).run(None, feeds)
    with torch.no_grad():
        return model(inputs)[0], torch.from_numpy(found)


@pytest.mark.parametrize("unseen", [-10_000.0, float("-inf")])
def test_a_masked_encoder_keeps_its_outputs_in_8_bits(zoo, unseen: float) -> None:
    build, example = zoo["encoder"]
    module, batch = build(), example(16)
    module.unseen = unseen
    model = all_8_bit(module, batch)
    with torch.no_grad():
        wanted = module(**batch)
    ours, theirs = outputs(model, as_inputs(model.blueprint.graph, batch))
    spread = float(wanted.max() - wanted.min())
    assert float((ours - wanted).abs().max()) < 0.05 * spread
    assert float((theirs - ours).abs().max()) < 0.02 * spread
    content = lower(model).SerializeToString()
    assert fallbacks(content, promises(model.blueprint)) == ()
    # All twelve layers of the blocks and the head.
    assert promised_kernels(model.blueprint)["QGemm"] == 13
    assert kernels(content)["Softmax"] == 2


def test_what_is_priced_as_integer_in_an_encoder_is_what_runs(zoo) -> None:
    build, example = zoo["encoder"]
    model = all_8_bit(build(), example(2))
    priced = Counter((op.kind, op.integer) for op in read_work(model.blueprint).operators)
    run = kernels(lower(model).SerializeToString())
    assert priced["quantize", False] == run["QuantizeLinear"]
    products = run["QGemm"] + run["QLinearMatMul"] + run["MatMulIntegerToFloat"]
    assert priced["linear", True] + priced["matmul", True] == products
    assert priced["add", True] == run["QLinearAdd"] == 0


class Detection(nn.Module):
    """A head that reads a distribution over bins off its channels, along the given axis."""

    def __init__(self, shape: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.last = nn.Linear(8, 4)
        self.shape, self.axis = shape, axis

    def forward(self, x: Tensor) -> Tensor:
        x = 0.02 * self.first(x).flatten(1)
        return self.last(x.view(x.shape[0], *self.shape).softmax(self.axis))


class Between(Detection):
    """The same with nothing between the convolution and the softmax, so that both meet in codes."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).flatten(1)
        return self.last(x.view(x.shape[0], *self.shape).softmax(self.axis))


@pytest.mark.parametrize("build", [Detection, Between])
@pytest.mark.parametrize(
    ("shape", "axis"), [((64, 4, 8), -1), ((4, 64, 8), 2), ((2, 2, 64, 8), 1), ((32, 8, 8), 1)]
)
def test_no_probability_is_lost_on_the_way_through_8_bits(
    build: type[nn.Module], shape: tuple[int, ...], axis: int
) -> None:
    torch.manual_seed(0)
    module = build(shape, axis).eval()
    batch = 0.05 * torch.randn(4, 3, 8, 8)
    model = all_8_bit(module, batch)
    ours, theirs = outputs(model, [batch])
    with torch.no_grad():
        wanted = module(batch)
    # Rows whose class flips by one code move the result by at most a step of each probability.
    step = float(module.last.weight.detach().abs().sum(1).max()) / 256
    assert float((ours - theirs).abs().max()) <= 2 * step
    assert float((ours - wanted).abs().max()) <= 4 * step + 0.02


def test_softmax_between_codes_is_the_fused_kernel_that_is_right() -> None:
    model = all_8_bit(Between((4, 64, 8), 2), torch.randn(2, 3, 8, 8))
    assert integer_kernels(lower(model).SerializeToString())["QLinearSoftmax"] == 1


class Bounded(nn.Module):
    """Three convolutions with something between bounds behind the first two."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(self.layers[0](x), self.low, self.high)
        if self.low is not None and self.high is not None:
            x = nn.functional.hardtanh(self.layers[1](x), self.low, self.high)
        return self.layers[2](x)


@pytest.mark.parametrize("low", [0.0, -0.3, 0.1, None])
@pytest.mark.parametrize("high", [0.4, 6.0, None])
def test_a_convolution_keeps_its_kernel_behind_any_bounds(
    low: float | None, high: float | None
) -> None:
    if low is None and high is None:
        return
    torch.manual_seed(0)
    x = torch.randn(8, 4, 8, 8)
    model = all_8_bit(Bounded(low, high), x)
    content = lower(model).SerializeToString()
    convolutions = 1 if low is None or high is None else 2  # the last one gives floats
    assert promised_kernels(model.blueprint)["QLinearConv"] == convolutions
    assert fallbacks(content, promises(model.blueprint)) == ()
    assert integer_kernels(content)["QLinearConv"] == convolutions
    # Bounds from zero are the codes' own; others may be left to an operator of floats.
    assert low != 0 or kernels(content)["Clip"] == 0
    ours, theirs = outputs(model, [x])
    assert float((theirs - ours).abs().max()) < 0.02 * float(ours.abs().max())


@pytest.mark.parametrize(("left_float", "expected"), [((), "MaxPool"), (("0",), "NhwcMaxPool")])
@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1, 2)]
)
def test_codes_of_a_float_kernel_are_pooled_channels_last(
    left_float: tuple[str, ...], expected: str, pool: nn.Module
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), pool, nn.Conv2d(16, 16, 3), nn.Flatten()
    )
    batch = torch.randn(1, 3, 19, 19)
    model = all_8_bit(module, batch, left_float)
    written = [node.op_type for node in lower(model).graph.node]
    assert [op for op in written if op.endswith("MaxPool")] == [expected]
    content = lower(model).SerializeToString()
    assert fallbacks(content, promises(model.blueprint)) == ()
    ours, theirs = outputs(model, [batch])
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(ours.abs().max())
