"""A weight of several operators lies once in both files, and ONNX Runtime gives what was scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.kernels.kernel_checks import session
from paredown.compressors.layers.database import Database
from paredown.compressors.models.assembling import assemble
from paredown.compressors.onnx.lowering import lower, plan_of
from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.statistics.ranges import collect_ranges
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.packing import read_packed, write_packed
from paredown.compressors.storage.stored import StoredTensor
from paredown.hardware_models.work.workload import read_work
from paredown.spaces.candidates.blueprint import Blueprint, Storage
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.scale_groups import GROUPED_KINDS
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.reading import read_model_map

TOKENS = 50


class Tied(nn.Module):
    """A table of tokens that the output layer reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, 16)
        self.between = nn.Linear(16, 16)
        self.head = nn.Linear(16, TOKENS)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        found = self.table(x)
        return self.head(found + torch.relu(self.between(found))).transpose(1, 2)


class TiedLast(Tied):
    """Of the last token alone: the head's kernel is another."""

    def forward(self, x: Tensor) -> Tensor:
        found = self.table(x)
        return self.head((found + torch.relu(self.between(found)))[:, -1])


class Siamese(nn.Module):
    """A trunk that runs on two images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 4)

    def trunk(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.trunk(x[:, :3]) - self.trunk(x[:, 3:])).abs())


class Cell(nn.Module):
    """A GRU written by hand, called step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.new = nn.Linear(4 + 8, 16), nn.Linear(4 + 8, 8)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 8)
        for t in range(x.shape[1]):
            r, u = torch.sigmoid(self.gates(torch.cat([x[:, t], h], 1))).chunk(2, 1)
            new = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
            h = u * h + (1 - u) * new
        return self.out(h)


class Stack(nn.Module):
    """One set of weights, called as three layers, as in ALBERT."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.over = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            q, k, v = (y.unflatten(-1, (2, 8)).transpose(1, 2) for y in self.qkv(x).chunk(3, -1))
            seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = self.norms[0](x + self.over(seen))
            x = self.norms[1](x + self.down(F.gelu(self.up(x))))
        return self.head(x.mean(1))


class Table(nn.Module):
    """An embedding of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(TOKENS, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.table(x)).mean(1))


def _tokens(count: int) -> Tensor:
    return torch.randint(TOKENS, (count, 6))


NETWORKS: dict[str, tuple[type[nn.Module], Callable[[int], Tensor]]] = {
    "tied": (Tied, _tokens),
    "tied, one token": (TiedLast, _tokens),
    "siamese": (Siamese, lambda n: torch.randn(n, 6, 8, 8)),
    "cell": (Cell, lambda n: torch.randn(n, 5, 4)),
    "stack": (Stack, lambda n: torch.randn(n, 6, 16)),
    "table": (Table, _tokens),
}
SHARED = {
    "tied": {"head": 2},
    "tied, one token": {"head": 2},
    "siamese": {"first": 2, "second": 2},
    "cell": {"gates": 5, "new": 5},
    "stack": {"qkv": 3, "over": 3, "up": 3, "down": 3},
    "table": {},
}
"""Operators that read a layer's weight, where there are several."""

FLOAT = SegmentChoice()
STATIC = SegmentChoice(activation_bits=8)
DYNAMIC = SegmentChoice(activation_bits=8, ranges="dynamic")


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def database(name: str) -> Database:
    torch.manual_seed(0)
    kind, draw = NETWORKS[name]
    captured = capture(kind().eval(), draw(1))
    model_map = read_model_map(captured)
    batches = [[draw(16)] for _ in range(2)]
    statistics = collect_statistics(
        captured.graph, captured.tensors, model_map.layers, batches, summed_cross_entropy
    )
    ranges = collect_ranges(captured.graph, captured.tensors, batches)
    return Database(model_map, captured.tensors, statistics, ranges)


def candidate(database: Database, segment: SegmentChoice = FLOAT, **choice) -> Candidate:
    model_map = database.model_map
    whole = LayerChoice(**choice)
    rows = replace(whole, group_size=0)
    return Candidate.of(
        layers={x.name: whole if x.kind in GROUPED_KINDS else rows for x in model_map.layers},
        segments={each.name: segment for each in model_map.segments},
    )


def check_parity(model: CompressedModel, x: Tensor, atol: float = 3e-6) -> None:
    proto = lower(model)
    file = proto.SerializeToString()
    runtime = session(file, exact=True)
    given = runtime.run(None, {runtime.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(given, model([x])[0].numpy(), atol=atol)
    assert len(file) == onnx_file_bytes(model.blueprint)


def test_every_call_belongs_to_the_layer(name: str, database: Database) -> None:
    found = {
        layer.name: len(layer.nodes) + len(layer.lookups)
        for layer in database.model_map.layers
        if layer.is_shared
    }
    assert found == SHARED[name]
    by_node = database.model_map.layer_by_node
    assert all(by_node[n] is x for x in database.model_map.layers for n in (*x.nodes, *x.lookups))


CHOICES = {
    "floats": {},
    "8 bits": {"weight_bits": 8},
    "4 bits": {"weight_bits": 4, "method": "gptq"},
    "1 bit": {"weight_bits": 1, "method": "gptq"},
    "2 bits": {"weight_bits": 2, "method": "gptq"},
    "groups": {"weight_bits": 4, "group_size": 8, "method": "descent"},
    "1-bit groups": {"weight_bits": 1, "group_size": 8, "method": "descent"},
    "ragged groups": {"weight_bits": 8, "group_size": 16, "method": "descent"},
    "low rank": {"weight_bits": 8, "rank": Rank(0.4)},
    "zeros": {"weight_bits": 8, "zeros": Zeros(0.5, "element"), "method": "gptq"},
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
@pytest.mark.parametrize("container", ["fast", "compact"])
def test_the_runtime_gives_what_was_scored(
    name: str, database: Database, choice: dict, container: str
) -> None:
    segment = SegmentChoice(container=container)
    model = assemble(candidate(database, segment, **choice), database)
    check_parity(model, NETWORKS[name][1](1))


@pytest.mark.parametrize("segment", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_the_runtime_gives_what_was_scored_on_codes(
    name: str, database: Database, segment: SegmentChoice
) -> None:
    model = assemble(candidate(database, segment, weight_bits=8), database)
    # A code may tip where sums end half way between two.
    check_parity(model, NETWORKS[name][1](1), atol=3e-2 if segment is STATIC else 3e-6)


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
def test_both_files_hold_every_weight_once(
    database: Database, choice: dict, tmp_path: Path
) -> None:
    compact = SegmentChoice(container="compact")
    model = assemble(candidate(database, compact, **choice), database)
    stored = model.blueprint.storage
    weights = {operator.weight for operator in model.blueprint.operators}
    shapes = Counter(tuple(sorted(i.dims)) for i in plan_of(model.blueprint).initialisers)
    for shape, count in Counter(tuple(sorted(stored[w].shape)) for w in weights).items():
        assert shapes[shape] == count
    file = tmp_path / "model.safetensors"
    write_packed(file, model.stored)
    assert file.stat().st_size == packed_file_bytes(model.blueprint)
    assert set(read_packed(file)) == set(stored)


def test_every_call_multiplies_the_same_rounded_weight(name: str, database: Database) -> None:
    """Against the dense network with the rounded weights in place of its own."""
    model = assemble(candidate(database, weight_bits=3, method="gptq"), database)
    tensors = {n: t.dense() for n, t in model.stored.items()}
    assert tensors.keys() == database.tensors.keys()
    x = NETWORKS[name][1](4)
    with torch.no_grad():
        dense = run(database.model_map.graph, tensors, [x])[0]
        torch.testing.assert_close(model([x])[0], dense)


def test_a_shared_weight_is_priced_once_in_bytes_and_at_every_call(
    name: str, database: Database
) -> None:
    blueprint = assemble(candidate(database, weight_bits=8), database).blueprint
    work = read_work(blueprint)
    layers = database.model_map.layers
    assert work.weight_count == sum(layer.weight_count for layer in layers)
    own = {layer.name: 0 for layer in layers}
    for operator in work.operators:
        if operator.layer:
            own[operator.layer] += operator.macs
    assert own == {layer.name: layer.macs for layer in layers}
    for layer in layers:
        called = sum(operator.layer == layer.name for operator in work.operators)
        assert called == len(layer.nodes) + len(layer.lookups)


def test_a_table_with_a_scale_for_each_column_is_read_as_it_was_written() -> None:
    torch.manual_seed(0)
    captured = capture(Table().eval(), _tokens(1))
    stored = {n: StoredTensor.unchanged(t) for n, t in captured.tensors.items()}
    table = captured.tensors["table.weight"]
    scale = table.abs().amax(dim=0) / 127
    storage = Storage(
        shape=tuple(table.shape), bits=8, axis=1, kept=table.numel(), onnx_type="int8"
    )
    codes = (table / scale).round().to(torch.int8)
    stored["table.weight"] = StoredTensor(storage=storage, values=codes, scale=scale)
    blueprint = Blueprint(
        graph=captured.graph,
        operators=(),
        storage={n: t.storage for n, t in stored.items()},
    )
    check_parity(CompressedModel(blueprint=blueprint, stored=stored), _tokens(1))
