"""Scales of activations: shared ones share a factor, known ones stay, and they come back by name."""

from dataclasses import replace

import pytest
import torch

from paredown.compressors.training.activations import (
    LearnedScales,
    scales_of,
    with_scales,
    with_scales_of,
)
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref

SOFTMAX = (1 / 256, 0)


def node(name, op, source, *args):
    return Node(name=name, op=op, args=(Ref(source), *args), shape=(1, 4))


def rounding(name, source, scale, zero_point=0):
    return node(name, QDQ, source, scale, zero_point, 0, 255)


@pytest.fixture
def graph():
    """Two values of one scale, a third of its own, and a softmax that is rounded, moved and rounded."""
    return Graph(
        nodes=(
            rounding("a", "x", 0.5),
            node("moved", "aten.flatten.using_ints", "a", 1, -1),
            rounding("b", "moved", 0.5),
            rounding("c", "b", 0.5, 7),
            node("softmax", "aten.softmax.int", "c", -1, None),
            rounding("d", "softmax", *SOFTMAX),
            node("again", "aten.flatten.using_ints", "d", 1, -1),
            rounding("e", "again", *SOFTMAX),
        ),
        inputs=("x",),
        input_shapes=((1, 4),),
        input_dtypes=("float32",),
        outputs=("e",),
        output_keys=("",),
    )


def test_shared_scales_share_a_factor_and_known_codes_stay(graph):
    scales = LearnedScales(graph, "lsq")
    assert len(scales.factors) == 2
    assert scales.now() == {"a": 0.5, "b": 0.5, "c": 0.5}
    with torch.no_grad():
        scales.factors[0] = 1.0
    found = scales.by_node()
    assert float(found["a"].detach()) == pytest.approx(0.5 * 2.718281828, rel=1e-6)
    assert torch.equal(found["a"], found["b"])
    assert float(found["c"].detach()) == 0.5


def test_the_gradient_of_a_factor_is_that_of_its_scales_times_them(graph):
    scales = LearnedScales(graph, "lsq")
    found = scales.by_node()
    (3 * found["a"] + 5 * found["b"] + 7 * found["c"]).backward()
    assert scales.factors.grad.tolist() == [4.0, 3.5]


def test_fixed_ranges_learn_nothing(graph):
    scales = LearnedScales(graph, "fixed")
    assert scales.by_node() == {}
    assert list(scales.learned()) == []
    assert LearnedScales(graph, "lsq").by_rounding
    assert not LearnedScales(graph, "pact").by_rounding
    assert len(list(LearnedScales(graph, "pact").learned())) == 1


def test_scales_are_read_and_put_back_by_the_names_of_their_nodes(graph):
    blueprint = Blueprint(graph=graph, operators=(), storage={})
    first = scales_of(blueprint)
    assert first == {"a": 0.5, "b": 0.5, "c": 0.5, "d": 1 / 256, "e": 1 / 256}
    other = with_scales(blueprint, {"a": 0.25, "b": 0.25})
    assert scales_of(other) == {**first, "a": 0.25, "b": 0.25}
    assert other.graph.by_name["c"] == graph.by_name["c"]
    assert with_scales_of(blueprint, other) == other
    assert with_scales(other, first) == blueprint


def test_scales_of_another_graph_are_not_taken(graph):
    blueprint = Blueprint(graph=graph, operators=(), storage={})
    fewer = replace(blueprint, graph=replace(graph, nodes=graph.nodes[:-1], outputs=("again",)))
    assert with_scales_of(blueprint, fewer) == blueprint
