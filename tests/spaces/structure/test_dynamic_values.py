"""Where rounding by a value's own range stands in a graph, and where the batch lies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.functions import DYNAMIC_QDQ
from paredown.spaces.graph.graph import run
from paredown.spaces.graph.graph_json import from_json, to_json
from paredown.spaces.graph.recurrent import LSTM
from paredown.spaces.graph.sizes import SizeError
from paredown.spaces.structure.dynamic_values import (
    FIRST,
    batch_places,
    finds_ranges,
    mark_dynamic,
    reads_own_range,
)
from paredown.spaces.structure.model_map import BatchPlace
from paredown.spaces.structure.reading import read_model_map


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1)
        return self.out(torch.relu(weights @ self.v(x)))


def test_layers_that_read_one_value_share_its_codes():
    captured = capture(Attention(), torch.randn(2, 5, 8))
    graph = captured.graph
    linear = [node.name for node in graph.nodes if node.op == "aten.linear.default"]
    marked = mark_dynamic(graph, dict.fromkeys(linear, FIRST))
    rounded = [node for node in marked.nodes if node.op == DYNAMIC_QDQ]
    assert [node.args[0].name for node in rounded] == [graph.inputs[0], "relu"]
    assert [node.args[1] for node in rounded] == [2, 2]
    assert all(reads_own_range(marked, marked.by_name[name]) for name in linear)
    others = [node for node in marked.nodes if node not in rounded and node.name not in linear]
    assert others == [node for node in graph.nodes if node.name not in linear]
    x = torch.randn(2, 5, 8)
    exact, found = (run(g, captured.tensors, [x])[0] for g in (graph, marked))
    assert 0 < float((exact - found).abs().max()) < 0.05


def test_no_layer_to_mark_changes_nothing():
    graph = capture(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.randn(1, 3)).graph
    assert mark_dynamic(graph, {}) == graph
    assert not finds_ranges(graph)


def test_a_linear_layer_and_an_lstm_may_find_ranges() -> None:
    linear = capture(nn.Linear(3, 2), torch.randn(1, 3)).graph
    assert finds_ranges(mark_dynamic(linear, {linear.nodes[0].name: FIRST}))
    steps = capture(nn.LSTM(3, 2, batch_first=True), torch.randn(1, 4, 3)).graph
    (lstm,) = (node.name for node in steps.nodes if node.op == LSTM)
    assert not finds_ranges(steps)
    assert finds_ranges(mark_dynamic(steps, {lstm: FIRST}))


class TokensFirst(nn.Module):
    """Torch's own attention, which puts tokens in front of the batch, and a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.attention(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("batch", [1, 2])
def test_samples_are_distinguished_where_the_batch_is_not_in_front(batch):
    torch.manual_seed(0)
    captured = capture(TokensFirst(), torch.randn(batch, 5, 8))
    model_map = read_model_map(captured)
    places = batch_places(captured.graph, captured.tensors)
    # (tokens, batch, channels), and that viewed as (tokens * batch, channels).
    assert set(places.values()) == {
        BatchPlace(axis=0, outside=5, inside=1),
        BatchPlace(axis=1, outside=1, inside=1),
    }
    choice = SegmentChoice(activation_bits=8, ranges="dynamic")
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=8) for layer in model_map.layers},
        segments={segment.name: choice for segment in model_map.segments},
    )
    graph = draft(model_map, candidate).graph
    assert sum(node.op == DYNAMIC_QDQ for node in graph.nodes) == 3
    x = torch.randn(7, 5, 8) * torch.arange(1, 8)[:, None, None]
    (together,) = run(graph, captured.tensors, [x])
    apart = torch.cat([run(graph, captured.tensors, [each])[0] for each in x.split(batch)])
    assert torch.allclose(together, apart, atol=1e-5)
    assert not torch.allclose(together, run(captured.graph, captured.tensors, [x])[0], atol=1e-3)


class Flat(nn.Module):
    """A layer that reads tokens and batch as one dimension, as GPT-2's do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.reshape(-1, 8)).reshape(x.shape[0], x.shape[1], 4)


@pytest.mark.parametrize("module", [TokensFirst, Flat])
@pytest.mark.parametrize("batch", [1, 2])
def test_samples_are_distinguished_at_any_length(module, batch):
    torch.manual_seed(0)
    captured = capture(module().eval(), torch.randn(batch, 5, 8), (3, 12))
    assert captured.graph.timed
    model_map = read_model_map(captured)
    linear = [layer.node for layer in model_map.layers if layer.kind == "linear"]
    places = {node: model_map.batch_places.get(node, FIRST) for node in linear}
    graph = from_json(to_json(mark_dynamic(captured.graph, places)))
    for length in (3, 5, 11):
        x = torch.randn(6, length, 8) * torch.arange(1, 7)[:, None, None]
        (together,) = run(graph, captured.tensors, [x])
        apart = torch.cat([run(graph, captured.tensors, [each])[0] for each in x.split(batch)])
        assert torch.allclose(together, apart, atol=1e-5)


class Strided(nn.Module):
    """Reads a number of positions that grows in steps with the length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[:, ::3].reshape(-1, 8)).reshape(x.shape[0], -1, 4)


def test_positions_that_grow_unevenly_are_refused():
    captured = capture(Strided(), torch.randn(1, 5, 8), (3, 12))
    with pytest.raises(SizeError, match="must grow evenly with the length"):
        batch_places(captured.graph, captured.tensors)
