"""What is priced as an integer kernel, and where codes meet floats, is what ONNX Runtime runs."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import kernels
from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.work.workload import Work, read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map


class Recurrent(nn.Module):
    """Three steps of a gated recurrence: one layer runs three times, and is left in float."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.recur = nn.Linear(8, 32), nn.Linear(16, 32, bias=False)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.read(x)
        state = gates[:, 0, :16].tanh()
        for step in range(1, 4):
            keep, new = (gates[:, step] + self.recur(state)).chunk(2, dim=1)
            state = keep.sigmoid() * state + new.sigmoid() * new.tanh()
        return self.head(state)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.body, self.last = (
            nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 8), (8, 8), (8, 8), (8, 4))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.gate(x).sigmoid() * self.body(x)
        return self.last(nn.functional.leaky_relu(self.body(x)))


def all_8_bit(module: nn.Module, example: Tensor) -> tuple[Work, Counter[str]]:
    """The work of the uniform 8-bit candidate, and the kernels that the runtime gives its file."""
    model_map = read_model_map(capture(module.eval(), example))
    candidate = Candidate.of(
        layers={x.name: LayerChoice(weight_bits=8, method="rtn") for x in model_map.layers},
        segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
    )
    blueprint = draft(model_map, candidate)
    return read_work(blueprint), kernels(bytes(lower(imagine(blueprint, 0)).SerializeToString()))


@pytest.mark.parametrize(
    ("build", "shape"), [(Recurrent, (1, 4, 8)), (Gated, (1, 3, 8, 8))], ids=["recurrent", "gated"]
)
def test_edges_and_integer_kernels_are_those_of_the_runtime(build, shape):
    torch.manual_seed(0)
    work, run = all_8_bit(build(), torch.randn(shape))
    priced = Counter((op.kind, op.integer) for op in work.operators)
    assert priced["quantize", False] == run["QuantizeLinear"]
    assert priced["dequantize", False] == run["DequantizeLinear"]
    assert priced["activation", True] == run["QLinearSigmoid"] + run["QLinearLeakyRelu"] + sum(
        op.fused and op.integer and op.kind == "activation" for op in work.operators
    )
    assert priced["mul", True] == run["QLinearMul"]
    assert priced["add", True] == run["QLinearAdd"]
    assert priced["linear", True] == run["QGemm"] + run["QLinearMatMul"]
    assert priced["conv", True] == run["QLinearConv"]
