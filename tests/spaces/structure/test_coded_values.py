"""Codes are where integer kernels read or write them, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph
from paredown.spaces.structure.coded_values import read_coding
from paredown.spaces.structure.quantized_values import mark_quantized
from paredown.spaces.structure.side_values import masked_values, uncoded_values


def marked(graph: Graph, masked: frozenset[str] = frozenset()) -> Graph:
    return mark_quantized(graph, lambda name: True, None, masked)


def readers(graph: Graph) -> dict[str, set[str]]:
    """Operators that read each rounded value, by the operator that computes it."""
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.op == QDQ and node.inputs[0] in graph.by_name:
            ops = {user.op.split(".")[1] for user in graph.users[node.name]}
            found.setdefault(graph.by_name[node.inputs[0]].op.split(".")[1], set()).update(ops)
    return found


def test_the_residual_stream_of_an_encoder_stays_float(mapped) -> None:
    model_map = mapped("encoder")
    found = readers(marked(model_map.graph, model_map.masked))
    assert found["layer_norm"] == {"linear"}
    assert found["gelu"] == {"linear"}
    assert found["softmax"] == {"matmul"}
    assert found["linear"] == {"view"}  # queries, keys and values alone
    assert found["div"] == {"linear"}  # the mean over tokens, not the scores
    assert not found.keys() & {"add", "embedding", "mul", "sum"}


def test_all_of_a_residual_network_is_codes(mapped) -> None:
    graph = marked(mapped("resnet20").graph)
    sums = [node for node in graph.nodes if node.op == "aten.add.Tensor"]
    assert len(sums) == 9
    assert all(graph.by_name[name].op == QDQ for node in sums for name in node.inputs)


def test_no_mask_no_constant_and_no_sum_with_one_is_rounded(mapped, captured) -> None:
    graph, tensors = captured("encoder").graph, captured("encoder").tensors
    rounded = {n.inputs[0] for n in marked(graph, mapped("encoder").masked).nodes if n.op == QDQ}
    assert rounded
    assert rounded.isdisjoint(uncoded_values(graph, tensors))


class Scores(nn.Module):
    """Convolutions around a softmax or another activation."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


@pytest.mark.parametrize(
    ("between", "low", "high"),
    [
        (nn.Softmax(1), 0.0, 1.0),
        (nn.Softmax(-1), 0.0, 1.0),
        (nn.Sigmoid(), 0.0, 1.0),
        (nn.Hardsigmoid(), 0.0, 1.0),
        (nn.Tanh(), -1.0, 1.0),
    ],
)
def test_results_of_a_known_range_take_it_whatever_calibration_saw(
    between: nn.Module, low: float, high: float
) -> None:
    graph = capture(Scores(between).eval(), torch.randn(1, 3, 6, 6)).graph
    parameters = dict.fromkeys((*graph.inputs, *graph.by_name), (0.0014, 0))
    found = mark_quantized(graph, lambda name: True, parameters)
    (node,) = (n for n in found.nodes if n.op == QDQ and "conv" not in n.name and n.name != "x.q")
    _, scale, zero_point, first, last = node.args
    assert graph.by_name[node.inputs[0]].facts.known_codes is not None
    assert (first - zero_point) * scale == pytest.approx(low, abs=scale)
    assert (last - zero_point) * scale == pytest.approx(high, abs=scale)


class LargestSeen(nn.Module):
    """The largest value over tokens that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(4, 4, 1), nn.Conv1d(4, 2, 1)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.first(x) + (real[:, None] - 1) * 1e4
        return self.last(F.max_pool1d(x, 2))


def test_what_is_pooled_from_masked_values_has_codes_of_its_own() -> None:
    captured = capture(LargestSeen().eval(), (torch.randn(2, 4, 8), torch.ones(2, 8)))
    graph = captured.graph
    masked = masked_values(graph, captured.tensors)
    names = (*graph.inputs, *graph.by_name)
    parameters = {name: (1.0 + at, 0) for at, name in enumerate(names) if name not in masked}
    found = mark_quantized(graph, lambda name: True, parameters, masked)
    pool = next(node.name for node in graph.nodes if "max_pool" in node.op)
    assert found.by_name[f"{pool}.q"].args[1] == parameters[pool][0]


def test_a_dtype_without_codes_has_none(mapped) -> None:
    assert read_coding(mapped("words").graph).values.isdisjoint(mapped("words").graph.inputs)
