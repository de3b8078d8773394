"""Layers that find the range of their inputs themselves: the runtime's kernels, and its results."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import fallbacks, integer_kernels, promises
from paredown.compressors.models.codes import fit_biases
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.sizes import onnx_file_bytes
from paredown.compressors.storage.compressed import CompressedModel
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

DYNAMIC = SegmentChoice(activation_bits=8, ranges="dynamic")


class Encoder(nn.Module):
    """Three layers that read one value, one with a ReLU behind it, one without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(24, 24) for _ in range(3))
        self.up, self.down = nn.Linear(24, 52), nn.Linear(52, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1)
        return self.down(torch.relu(self.up(x + weights @ self.v(x))))


class Rows(nn.Module):
    """Layers of two dimensions, and a convolution, which has no kernel of this kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3)
        self.first, self.last = nn.Linear(6 * 16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(torch.relu(self.conv(x)).flatten(1))))


NETWORKS = {"encoder": (Encoder, (1, 7, 24)), "rows": (Rows, (1, 2, 6, 6))}
KERNELS = {
    "encoder": Counter(MatMulIntegerToFloat=3, DynamicQuantizeMatMul=2),
    "rows": Counter(DynamicQuantizeMatMul=2),
}


def compressed(name: str, bits: int, rank: float = 1.0) -> CompressedModel:
    """The network with random codes of so many bits in every layer."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model_map = read_model_map(capture(build(), torch.randn(shape)))
    choice = LayerChoice(weight_bits=bits, rank=Rank(rank))
    candidate = Candidate.of(
        layers={layer.name: choice for layer in model_map.layers},
        segments={segment.name: DYNAMIC for segment in model_map.segments},
    )
    return fit_biases(imagine(draft(model_map, candidate), seed=0))


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_runtime_takes_the_promised_kernels(name, bits):
    model = compressed(name, bits)
    blueprint, proto = model.blueprint, lower(model)
    onnx.checker.check_model(proto)
    file = proto.SerializeToString()
    assert Counter(p.kernel for p in promises(blueprint)) == KERNELS[name]
    assert integer_kernels(file) == KERNELS[name]
    assert fallbacks(file, promises(blueprint)) == ()
    assert onnx_file_bytes(blueprint) == len(file)


@pytest.mark.parametrize("bits", [8, 5, 4, 3, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_runtime_gives_what_our_own_run_gives(name, bits, run_onnx):
    model = compressed(name, bits)
    for seed in range(5):
        x = torch.randn(NETWORKS[name][1], generator=torch.Generator().manual_seed(seed))
        (found,), (ours,) = run_onnx(model, x)
        # A code on the edge between two may fall to either side.
        assert float((found - ours).abs().max()) <= 5e-3 * float(ours.abs().max())
        assert float((found - ours).abs().median()) <= 1e-5 * float(ours.abs().max())


def test_every_factor_of_a_chain_reads_its_own_range(run_onnx):
    model = compressed("encoder", 8, rank=0.25)
    assert integer_kernels(lower(model).SerializeToString())["DynamicQuantizeMatMul"] == 7
    (found,), (ours,) = run_onnx(model, torch.randn(1, 7, 24))
    assert float((found - ours).abs().median()) <= 1e-5 * float(ours.abs().max())


def test_a_layer_that_lost_its_kernel_is_named():
    model = compressed("rows", 8)
    proto = lower(model)
    # Scales added where they are to be multiplied: another function, and no fused kernel for it.
    for node in proto.graph.node:
        if node.op_type == "Mul":
            node.op_type = "Add"
    found = fallbacks(proto.SerializeToString(), promises(model.blueprint))
    assert [fallback.promise.layer for fallback in found] == ["first", "last"]
    assert all("promised was DynamicQuantizeMatMul" in str(fallback) for fallback in found)
