"""Rules of the space: their kind is known by their key, and choices are named once each."""

import pytest
from pydantic import ValidationError

from paredown.search.config.schema_space import (
    DEFAULT_RULES,
    BlockRule,
    GroupRule,
    LayerRule,
    SegmentRule,
    SpaceSection,
)


def rules(*given):
    return SpaceSection.model_validate({"rules": list(given)}).rules


def test_the_key_that_names_what_matches_decides_the_kind_of_a_rule():
    found = rules(
        {"layers": "a", "weight_bits": [8]},
        {"segments": ["a", "b"], "activation_bits": [32]},
        {"groups": "a*", "width": [0.5]},
        {"blocks": "a", "drop": True},
    )
    assert [type(rule) for rule in found] == [LayerRule, SegmentRule, GroupRule, BlockRule]
    # One name may stand without a list.
    assert found[0].layers == ("a",)
    assert found[1].segments == ("a", "b")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"weight_bits": [8]}, "exactly one of layers, segments, groups, blocks"),
        ({"layers": "a", "blocks": "a", "drop": True}, "exactly one of"),
        ({"layers": []}, "at least one pattern"),
        ({"layers": ["a", "a"]}, "each pattern once"),
        ({"layers": "a", "weight_bits": []}, "at least one choice; leave the key out"),
        ({"layers": "a", "weight_bits": [4, 4]}, "each choice once"),
        ({"layers": "a", "weight_bits": [7]}, "1, 2, 3, 4, 5, 6, 8 or 32"),
        ({"layers": "a", "rank_fraction": [0.0]}, "greater than 0"),
        ({"layers": "a", "sparsity": [1.0]}, "less than 1"),
        ({"layers": "a", "group_size": [48]}, "group_size"),
        ({"groups": "a", "width": [1.5]}, "less than or equal to 1"),
    ],
)
def test_a_rule_that_chooses_nothing_or_what_there_is_not_is_refused(rule, says):
    with pytest.raises(ValidationError, match=says):
        rules(rule)


def test_the_default_rules_open_something_of_everything_and_keep_the_uncompressed_model():
    assert {type(rule) for rule in DEFAULT_RULES} == {
        LayerRule,
        SegmentRule,
        GroupRule,
        BlockRule,
    }
    assert SpaceSection().rules == DEFAULT_RULES
    layers = next(rule for rule in DEFAULT_RULES if isinstance(rule, LayerRule))
    assert 32 in layers.weight_bits
    assert 0.0 in layers.sparsity
    assert 1.0 in layers.rank_fraction


def test_a_network_without_a_name_is_refused():
    with pytest.raises(ValidationError, match="a name must not be empty"):
        SpaceSection.model_validate({"architectures": {" ": {}}})
