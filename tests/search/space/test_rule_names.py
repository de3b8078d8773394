"""A name in a rule that no network has is refused, with those that there are."""

from dataclasses import replace

import pytest

from paredown.search.config.schema_space import (
    DEFAULT_RULES,
    BlockRule,
    GroupRule,
    LayerRule,
    SegmentRule,
)
from paredown.search.space.rule_names import (
    RuleNameError,
    check_rank_errors,
    check_rule_names,
    check_settings,
)


@pytest.mark.parametrize("network", ["mlp", "resnet_a"])
def test_the_default_rules_fit_every_network_even_one_without_blocks(mapped, network):
    check_rule_names(DEFAULT_RULES, [mapped(network)])


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            LayerRule(layers=("conv1", "layer9.*"), weight_bits=(4,)),
            r"rules\[1\]\.layers: .*'layer9\.\*'",
        ),
        (
            LayerRule(layers=("layer1.0.convv1",), weight_bits=(4,)),
            "did you mean 'layer1.0.conv1'",
        ),
        (SegmentRule(segments="nowhere", activation_bits=(8,)), "its segments are conv1"),
        (GroupRule(groups="x*", width=(0.5,)), "its groups are"),
        (BlockRule(blocks="layer1", drop=True), "its blocks are layer1.0, layer1.1"),
    ],
)
def test_a_name_that_matches_nothing_is_told_with_its_place_and_those_there_are(
    mapped, rule, says
):
    first = LayerRule(layers=("*",), weight_bits=(4, 8))
    with pytest.raises(RuleNameError, match=says):
        check_rule_names([first, rule], [mapped("resnet_a")])


def test_a_rule_for_blocks_of_a_network_without_any_is_to_be_deleted(mapped):
    with pytest.raises(RuleNameError, match="it has none, so delete the rule"):
        check_rule_names([BlockRule(blocks="layer1*", drop=True)], [mapped("mlp")])


def test_a_name_of_one_architecture_is_enough(mapped):
    rule = LayerRule(layers=("layer1.0.conv1",), weight_bits=(4,))
    check_rule_names([rule], [mapped("mlp"), mapped("resnet_a")])
    with pytest.raises(RuleNameError):
        check_rule_names([rule], [mapped("mlp")])


def test_ranges_mean_nothing_without_bits():
    alone = SegmentRule(segments="*", ranges=("dynamic",))
    with pytest.raises(RuleNameError, match=r"rules\[0\]\.ranges: means nothing without activ"):
        check_settings([alone])
    check_settings([alone, SegmentRule(segments="*", activation_bits=(8,))])


@pytest.mark.parametrize(
    ("setting", "value", "whole"),
    [
        ("pattern", ("2:4",), "sparsity"),
        ("decomposition", ("tucker",), "rank_fraction"),
        ("decomposition", ("tucker",), "rank_error"),
        ("rank_step", 8, "rank_fraction"),
        ("rank_step", 8, "rank_error"),
    ],
)
def test_a_setting_that_means_nothing_alone_is_told_with_what_it_lacks(setting, value, whole):
    bits = LayerRule(layers=("*",), weight_bits=(4, 8))
    alone = LayerRule(layers=("*",), **{setting: value})
    with pytest.raises(
        RuleNameError, match=rf"rules\[1\]\.{setting}: means nothing without .*{whole}"
    ):
        check_settings([bits, alone])
    elsewhere = LayerRule(layers=("fc",), **{whole: (0.5,)})
    check_settings([bits, alone, elsewhere])


def test_an_error_is_asked_of_layers_that_have_a_low_rank(mapped):
    rule = LayerRule(layers=("*",), rank_error=(0.1,))
    check_rank_errors([rule], [mapped("mlp")])
    model_map = mapped("lenet")
    kinds = {
        "grouped conv2d": {"groups": 2},
        "embedding": {"kind": "embedding"},
        "conv_transpose2d": {"kind": "conv_transpose2d"},
    }
    for kind, fields in kinds.items():
        layers = tuple(
            replace(layer, **fields) for layer in model_map.layers if layer.kind == "conv2d"
        )
        other = replace(model_map, layers=layers)
        with pytest.raises(
            RuleNameError, match=rf"rules\[1\]\.rank_error: must match .* got {kind};"
        ):
            check_rank_errors([LayerRule(layers=("*",), weight_bits=(8,)), rule], [other])
        check_rank_errors([rule], [other, model_map])
