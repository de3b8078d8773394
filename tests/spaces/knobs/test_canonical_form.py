"""Equal models have one key: nested blocks, what lives inside dropped ones, and equal ranks."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.layers.methods import Problem, compress
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import DropKnob, outermost
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.knobs.width import WidthKnob

SEGMENT = tuple(
    SegmentChoice(activation_bits=bits, container=container, ranges=ranges)
    for bits, ranges in ((32, "static"), (8, "dynamic"), (8, "static"))
    for container in ("compact", "fast")
)


class Nested(nn.Module):
    """A residual block inside another, and two blocks over the same layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head, self.tail = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1)
        self.a, self.b = nn.Conv2d(12, 16, 1), nn.Conv2d(16, 12, 1)
        self.c, self.d = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        h = F.relu(self.head(x))
        h = F.relu(h + self.b(F.relu(self.a(h))))
        x = F.relu(x + self.tail(h))
        inner = x + self.d(F.relu(self.c(x)))
        x = x + F.relu(inner)
        return self.out(x.mean((2, 3)))


@pytest.fixture(scope="module")
def nested(read):
    torch.manual_seed(0)
    return read(Nested(), torch.randn(1, 3, 6, 6))


# Of eight channels the two of a form that stand side by side give one rank.
RANKS = (
    Rank(), Rank(0.5), Rank(0.45), Rank(0.3, "spatial"), Rank(0.29, "spatial"), Rank(0.25),
    Rank(0.25, "tucker", 0.51), Rank(0.25, "tucker"), Rank(0.24, "tucker"), Rank(0.24, "tucker", 0.25),
)  # fmt: skip


def architecture_of(model_map, *, ties):
    """Every knob of structure and storage; with `ties` layers, segments and blocks share theirs."""
    layers = tuple(layer.name for layer in model_map.layers)
    offers = (
        (WeightBitsKnob, layers, (32, 8, 4, 2, 1)),
        (RankKnob, layers, RANKS),
        (SegmentKnob, tuple(s.name for s in model_map.segments), SEGMENT),
        (DropKnob, tuple(b.name for b in model_map.blocks), (False, True)),
    )
    knobs = []
    for knob, names, domain in offers:
        for each in [names] if ties else [(name,) for name in names]:
            knobs.append(knob(name=f"{knob.kind}:{each[0]}", targets=each, domain=domain))
    for group in model_map.groups:
        domain = tuple(range(group.channels, 0, -max(1, group.channels // 4)))
        name = f"width:{group.name}"
        knobs.append(
            WidthKnob(name=name, targets=(group.name,), domain=domain, channels=group.channels)
        )
    return Architecture(name="", model_map=model_map, knobs=tuple(knobs))


def settings(space, count):
    """Random settings, half of the parameters at their first value."""
    draw = random.Random(0)
    for _ in range(count):
        yield {n: draw.choice((0, draw.randrange(k))) for n, k in space.dimensions().items()}


def test_the_network_has_the_blocks_it_is_here_for(nested) -> None:
    assert [set(block.layers) for block in nested.blocks] == [
        {"a", "b"},
        {"head", "a", "b", "tail"},
        {"c", "d"},
        {"c", "d"},
    ]
    assert any(set(g.producers) <= {"a", "b"} for g in nested.groups)


@pytest.mark.parametrize("name", ["nested", "resnet_projection"])
def test_one_knob_turned_changes_the_key_exactly_where_it_changes_the_model(
    name, nested, mapped
) -> None:
    model_map = nested if name == "nested" else mapped(name)
    space = Space(architectures=(architecture_of(model_map, ties=False),))
    draw = random.Random(1)
    same = 0
    for parameters in settings(space, 12):
        candidate = space.decode(parameters)
        blueprint = draft(model_map, candidate)
        for parameter, size in space.dimensions().items():
            other = space.decode({**parameters, parameter: draw.randrange(size)})
            is_equal = draft(model_map, other) == blueprint
            assert (other.key == candidate.key) == is_equal, (parameter, candidate, other)
            same += is_equal
    assert same > 50, "some knobs must have been inert"


@pytest.mark.parametrize("ties", [False, True])
def test_encoding_gives_back_candidates_of_nested_blocks(nested, ties) -> None:
    space = Space(architectures=(architecture_of(nested, ties=ties),))
    for parameters in settings(space, 80):
        candidate = space.decode(parameters)
        assert canonical(space.architectures[0], candidate) == candidate
        assert space.decode(space.encode(candidate)) == candidate


def test_only_the_outermost_of_dropped_blocks_count(nested) -> None:
    inner, outer, shorter, longer = (block.name for block in nested.blocks)
    assert outermost(nested, (inner, outer)) == (outer,)
    assert outermost(nested, (inner, shorter)) == (inner, shorter)
    assert outermost(nested, (longer, shorter, inner)) == (longer, inner)
    assert outermost(nested, ()) == ()


def test_without_codes_the_methods_by_exact_obs_are_one(nested) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(30, 16, dtype=torch.float64)
    problem = Problem(target=Target.of(torch.randn(6, 16), inputs.T @ inputs / 30))
    choices = [
        LayerChoice(zeros=Zeros(0.5, "element"), method=method)
        for method in ("descent", "adaround", "obq", "joint")
    ]
    found = [compress(problem, choice).dense() for choice in choices]
    assert all(torch.equal(each, found[0]) for each in found)
    architecture = Architecture(name="", model_map=nested, knobs=())
    keys = {canonical(architecture, Candidate.of(layers={"a": c})).key for c in choices}
    assert len(keys) == 1


def test_a_pattern_that_leaves_every_weight_is_none(mapped) -> None:
    model_map = mapped("mobilenet_v2")
    architecture = Architecture(name="", model_map=model_map, knobs=())
    first = model_map.layers[0].name
    for sparsity, pattern, is_none in (
        (1e-6, "element", True),
        (1e-6, "block", True),
        (0.5, "block", False),
    ):
        choice = LayerChoice(weight_bits=4, zeros=Zeros(sparsity, pattern))
        found = canonical(architecture, Candidate.of(layers={first: choice})).layer(first)
        assert found == (LayerChoice(weight_bits=4) if is_none else choice)


def test_learned_rounding_of_wide_codes_is_that_of_descent(nested) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(30, 16, dtype=torch.float64)
    problem = Problem(target=Target.of(torch.randn(6, 16), inputs.T @ inputs / 30))
    architecture = Architecture(name="", model_map=nested, knobs=())
    for bits, is_same in ((4, False), (5, True), (6, True)):
        choices = [
            LayerChoice(weight_bits=bits, zeros=Zeros(0.5, "element"), method=method)
            for method in ("descent", "adaround")
        ]
        first, second = (compress(problem, choice).dense() for choice in choices)
        keys = {canonical(architecture, Candidate.of(layers={"a": c})).key for c in choices}
        assert (len(keys) == 1) == is_same
        assert not is_same or torch.equal(first, second)


def test_one_bit_has_no_zeros_and_no_method_that_needs_one(nested) -> None:
    architecture = Architecture(name="", model_map=nested, knobs=())

    def found(**fields) -> LayerChoice:
        return canonical(architecture, Candidate.of(layers={"a": LayerChoice(**fields)})).layer(
            "a"
        )

    half = Zeros(0.5, "element")
    assert found(weight_bits=1, zeros=half, method="gptq") == LayerChoice(
        weight_bits=1, method="gptq"
    )
    assert {
        found(weight_bits=1, zeros=half, method=method)
        for method in ("adaround", "obq", "descent", "joint")
    } == {LayerChoice(weight_bits=1, method="descent")}
    assert found(weight_bits=2, zeros=half, method="obq").zeros == half


@pytest.fixture(scope="module")
def grouped(read):
    """A linear layer of a hundred inputs, one of twenty, and a convolution."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(100, 20), nn.Tanh(), nn.Linear(20, 9)
    )
    return Architecture(name="", model_map=read(layers, torch.randn(1, 3, 5, 5)), knobs=())


@pytest.mark.parametrize("container", ["compact", "fast"])
@pytest.mark.parametrize("bits", [2, 4, 8, 32])
def test_dynamic_ranges_stay_only_where_a_linear_layer_has_integer_weights(
    grouped, bits, container
) -> None:
    how = SegmentChoice(activation_bits=8, container=container, ranges="dynamic")
    model_map = grouped.model_map
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=bits) for layer in model_map.layers},
        segments={segment.name: how for segment in model_map.segments},
    )
    found = canonical(grouped, candidate)
    assert draft(model_map, found) == draft(model_map, candidate)
    for segment in model_map.segments:
        is_linear = all(model_map.layer_by_name[name].kind == "linear" for name in segment.layers)
        choice = found.segment(segment.name)
        assert (choice.ranges == "dynamic") == (is_linear and bits < 32)
        assert (choice.activation_bits == 8) == (is_linear and bits < 32)
        # Beside codes both containers hold 8 bits alike; beside floats one holds floats.
        differs = bits < 8 or (bits == 8 and not is_linear)
        assert choice.container == (container if differs else "compact")
    assert {name for name, _ in found.layers} == (
        {x.name for x in model_map.layers} if bits < 32 else set()
    )


def with_groups(architecture, activation_bits=32, **fields):
    """Group sizes by layer after canonical form, every layer set alike."""
    model_map = architecture.model_map
    choice = LayerChoice(**{"weight_bits": 4, "method": "gptq", "group_size": 32, **fields})
    how = SegmentChoice(activation_bits=activation_bits)
    candidate = Candidate.of(
        layers={layer.name: choice for layer in model_map.layers},
        segments={segment.name: how for segment in model_map.segments},
    )
    found = canonical(architecture, candidate)
    assert canonical(architecture, found) == found
    return [found.layer(layer.name) for layer in model_map.layers]


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({}, [0, 32, 0]),  # a convolution, and a row that is shorter than a group
        ({"group_size": 64}, [0, 64, 0]),
        ({"group_size": 128}, [0, 0, 0]),
        ({"weight_bits": 32}, [0, 0, 0]),
        ({"activation_bits": 8}, [0, 0, 0]),  # integer kernels take one scale a row
        ({"rank": Rank(0.5)}, [0, 32, 0]),  # the first factor still has a hundred inputs
    ],
)
def test_groups_stay_only_where_a_stored_weight_has_them(grouped, fields, sizes) -> None:
    assert [choice.group_size for choice in with_groups(grouped, **fields)] == sizes


def test_a_method_of_one_scale_a_row_becomes_one_that_knows_groups(grouped) -> None:
    for method in ("adaround", "obq", "joint"):
        fields = {"zeros": Zeros(0.5, "element"), "method": method}
        assert [c.method for c in with_groups(grouped, **fields)] == [method, "descent", method]
    for method in ("laq", "gptq", "descent"):
        assert [c.method for c in with_groups(grouped, method=method)] == [method] * 3


def test_narrower_inputs_may_leave_no_group(mapped) -> None:
    model_map = mapped("lenet")
    architecture = Architecture(name="", model_map=model_map, knobs=())
    wide = {layer.name: LayerChoice(weight_bits=4, group_size=32) for layer in model_map.layers}
    found = canonical(architecture, Candidate.of(layers=wide))
    for layer in model_map.layers:
        has_groups = layer.kind == "linear" and layer.weight_shape[1] > 32
        assert found.layer(layer.name).group_size == (32 if has_groups else 0)
