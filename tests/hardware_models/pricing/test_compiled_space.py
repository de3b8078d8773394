from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.hardware_models.latency.models import LatencyError, RooflineLatency
from paredown.hardware_models.latency.table import TableEntry, naive_table, signature
from paredown.hardware_models.pricing.compiled_space import CompiledSpace
from paredown.hardware_models.work.workload import read_work
from paredown.search.config.schema_space import (
    BlockRule,
    GroupRule,
    LayerRule,
    SegmentRule,
    SpaceSection,
)
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

X86 = load_device("x86-avx512-vnni-ort")
RULES = (
    LayerRule(
        layers=("*",),
        weight_bits=(2, 4, 8, 32),
        rank_fraction=(1.0, 0.25),
        rank_step=1,
        decomposition=("channel", "spatial", "tucker"),
    ),
    SegmentRule(segments=("*",), activation_bits=(8, 32), container=("compact", "fast")),
    GroupRule(groups=("*",), width=(1.0, 0.5)),
    BlockRule(blocks=("*",), drop=True),
)


@pytest.fixture(scope="module")
def space(residual_chain):
    maps = {"net": read_model_map(residual_chain(3, 32))}
    section = SpaceSection(rules=RULES)
    return build_space(section, maps, capabilities(X86), ("latency_s", "packed_bytes"))


class Tokens(nn.Module):
    """Linear layers that find the ranges of what they read, in turn with a convolution."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, stride=4)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.q, self.k, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.down(torch.relu(self.up(x)))
        x = x + (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ x
        return self.head(x.mean(1))


def test_layers_that_find_their_ranges_cost_what_the_scalar_path_says():
    maps = {"net": read_model_map(capture(Tokens(), torch.randn(1, 3, 16, 16)))}
    rules = (
        LayerRule(layers=("*",), weight_bits=(4, 8, 32), rank_fraction=(1.0, 0.25), rank_step=1),
        SegmentRule(segments=("*",), activation_bits=(8, 32), ranges=("static", "dynamic")),
    )
    goals = ("latency_s", "packed_bytes")
    tokens = build_space(SpaceSection(rules=rules), maps, capabilities(X86), goals)
    model = RooflineLatency(X86)
    compiled = CompiledSpace(tokens, model, lambda c: read_work(draft(tokens.model_map(c), c)))
    population = compiled.draw(150, seed=3)
    candidates = [compiled.candidate(row) for row in population]
    assert sum("dynamic" in repr(c.segments) for c in candidates) > 50
    exact = [model.predict(read_work(draft(maps["net"], c))).value_s for c in candidates]
    assert compiled.predict_many(population).value_s == pytest.approx(exact, rel=1e-9)


def test_integer_layers_that_give_floats_are_told_from_those_that_give_codes():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 9), nn.Hardswish(), nn.Linear(9, 8))
    maps = {"net": read_model_map(capture(net, torch.randn(1, 8)))}
    rules = (
        LayerRule(layers=("*",), weight_bits=(4, 8)),
        SegmentRule(segments=("*",), activation_bits=(8,), ranges=("static", "dynamic")),
    )
    space = build_space(
        SpaceSection(rules=rules), maps, capabilities(X86), ("latency_s", "packed_bytes")
    )
    model = RooflineLatency(X86)
    compiled = CompiledSpace(space, model, lambda c: read_work(draft(maps["net"], c)))
    population = compiled.draw(60, seed=3)
    candidates = [compiled.candidate(row) for row in population]
    exact = [model.predict(read_work(draft(maps["net"], c))).value_s for c in candidates]
    assert compiled.predict_many(population).value_s == pytest.approx(exact, rel=1e-9)


@pytest.fixture(scope="module")
def price(space):
    return lambda candidate: read_work(draft(space.model_map(candidate), candidate))


def small_memory(device):
    """The device with a first level of memory that only some candidates fit into."""
    first, *others = device.memory.levels
    levels = (first.model_copy(update={"size_bytes": 60_000}), *others)
    memory = device.memory.model_copy(update={"levels": levels})
    return device.model_copy(update={"memory": memory})


def models(space, price):
    preset = RooflineLatency(X86)
    work = price(space.decode({}))
    entries = [
        TableEntry(signature=signature(op), seconds=3 * float(s), preset_s=float(s))
        for op, s in zip(work.operators, preset.operators_s(work), strict=True)
        if op.kind == "conv"
    ]
    tight = RooflineLatency(small_memory(X86))
    return {"roofline": preset, "tight": tight, "table": naive_table(preset, entries, "test")}


@pytest.mark.parametrize("kind", ["roofline", "tight", "table"])
def test_a_population_costs_what_the_scalar_path_says(kind, space, price):
    model = models(space, price)[kind]
    compiled = CompiledSpace(space, model, price)
    population = compiled.draw(150, seed=3)
    found = compiled.predict_many(population)
    exact = [model.predict(price(compiled.candidate(row))) for row in population]
    assert found.value_s == pytest.approx(np.array([e.value_s for e in exact]), rel=1e-9)
    assert found.high_s == pytest.approx(np.array([e.high_s for e in exact]), rel=1e-9)
    assert found.source == model.source
    assert len({*found.value_s.tolist()}) > 50


def test_entries_are_made_once(space, price):
    asked = []

    def counted(candidate):
        asked.append(candidate.key)
        return price(candidate)

    compiled = CompiledSpace(space, RooflineLatency(X86), counted)
    population = compiled.draw(60, seed=1)
    first = compiled.predict_many(population).value_s
    made = len(asked)
    again = compiled.predict_many(population).value_s
    assert len(asked) == made
    assert again.tolist() == first.tolist()


def test_rows_decode_as_the_space_does(space, price):
    compiled = CompiledSpace(space, RooflineLatency(X86), price)
    for row in compiled.draw(20, seed=2):
        candidate = compiled.candidate(row)
        assert space.contains(candidate)
    assert compiled.candidate(np.zeros(len(compiled.knobs), int)) == space.decode({})


def test_a_model_whose_segments_are_not_local_is_refused(space, price):
    class Global(RooflineLatency):
        def operators_s(self, work, level=None):
            return super().operators_s(work, level) * (1 + 1e-3 * len(work.operators))

    compiled = CompiledSpace(space, Global(X86), price)
    with pytest.raises(LatencyError, match="one by one"):
        compiled.compile(count=200)
