"""The knobs of a layer: one for each key that a rule sets, in the order of their parameters."""

from __future__ import annotations

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.config.schema_space import LayerRule
from paredown.search.space.layer_rules import LAYER_KNOBS, layer_knobs
from paredown.search.space.scope import Scope
from paredown.search.space.tied_knobs import SpaceError


@pytest.fixture
def draw(mapped):
    def make(*rules, goals=("packed_bytes",)):
        scope = Scope(
            architecture="",
            model_map=mapped("lenet"),
            rules=rules,
            offered=capabilities(load_device("x86-avx512-vnni-ort")),
            goals=frozenset(goals),
            find_ranks=None,
        )
        return list(layer_knobs(scope)), scope

    return make


def test_every_kind_is_opened_by_its_key_and_named_after_it(draw) -> None:
    rule = LayerRule(
        layers="fc1",
        weight_bits=(4, 32),
        sparsity=(0.5, 0.0),
        rank_fraction=(1.0, 0.25),
        method=("rtn", "gptq"),
        group_size=(32,),
        tie=True,
    )
    found, _ = draw(rule)
    kinds = ["weight_bits", "sparsity", "rank_fraction", "method", "group_size"]
    assert [knob.name for _, knob in found] == [f"fc1:{kind}" for kind in kinds]
    assert [tie for tie, _ in found] == [0] * len(LAYER_KNOBS)
    texts = [knob.domain_text for _, knob in found]
    assert texts == ["32, 4", "none, 50% element", "whole, 25% channel", "gptq, rtn", "32"]


def test_a_layer_that_no_rule_names_has_no_knob(draw) -> None:
    assert draw(LayerRule(layers="conv1", weight_bits=(8,)))[0][0][1].targets == ("conv1",)
    assert draw()[0] == []


def test_widths_that_no_goal_distinguishes_are_listed(draw) -> None:
    # Both are stored as 8-bit integers in the ONNX file.
    rule = LayerRule(layers="fc1", weight_bits=(8, 5, 32))
    ((_, knob),), scope = draw(rule, goals=("onnx_bytes",))
    assert knob.domain == (32, 8)
    assert "weight bits 5" in {item.what for item in scope.left_out}
    assert draw(rule)[0][0][1].domain == (32, 8, 5)


def test_a_width_that_the_device_does_not_run_is_refused(draw) -> None:
    with pytest.raises(SpaceError, match=r"weight_bits of layer 'fc1' .* got \[7\]"):
        draw(LayerRule.model_construct(layers=("fc1",), weight_bits=(7,)))


def test_one_bit_is_offered_beside_zeros_that_other_widths_take(draw) -> None:
    rule = LayerRule(
        layers="fc1", weight_bits=(1, 4), sparsity=(0.0, 0.5), method=("rtn", "descent", "joint")
    )
    (_, bits), *others = draw(rule)[0]
    assert bits.domain == (4, 1)
    assert [knob.name for _, knob in others] == ["fc1:sparsity", "fc1:method"]
    # In the ONNX file it is stored as 2 bits are.
    ((_, knob),), scope = draw(
        LayerRule(layers="fc1", weight_bits=(1, 2, 8)), goals=("onnx_bytes",)
    )
    assert knob.domain == (8, 2)
    assert "weight bits 1" in {item.what for item in scope.left_out}


def test_zeros_beside_one_bit_alone_are_left_out(draw) -> None:
    rule = LayerRule(layers="fc1", weight_bits=(1,), sparsity=(0.0, 0.5))
    ((_, knob),), scope = draw(rule)
    assert knob.name == "fc1:weight_bits"
    assert [(item.what, item.reason) for item in scope.left_out] == [
        ("sparsity of fc1", "its 1-bit codes have no zero")
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"sparsity": (0.5, 0.7)},
            r"sparsity of layer 'fc1' must hold 0 .* got \[0.5, 0.7\]; add 0,",
        ),
        (
            {"method": ("obq", "gptq")},
            r"method of layer 'fc1' must not be .* got obq; take it out",
        ),
    ],
)
def test_what_needs_a_zero_is_refused_beside_one_bit(draw, asked, message) -> None:
    with pytest.raises(SpaceError, match=message):
        draw(LayerRule(layers="*", weight_bits=(1, 2)), LayerRule(layers="fc1", **asked))
