"""Rules in one: later ones win key by key, and the last word on ties counts."""

from __future__ import annotations

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.config.schema_space import BlockRule, LayerRule, SegmentRule
from paredown.search.space.scope import Scope, layer_rule, matching, merged, tie_of

RULES = (
    LayerRule(layers="*", weight_bits=(8, 4), method=("rtn",), tie=True),
    SegmentRule(segments="*", container=("fast",)),
    LayerRule(layers=("conv*", "fc1"), weight_bits=(32,)),
    LayerRule(layers="fc2", tie=False),
)


def test_later_rules_win_key_by_key() -> None:
    assert layer_rule(RULES, "conv1").weight_bits == (32,)
    assert layer_rule(RULES, "conv1").method == ("rtn",)
    assert layer_rule(RULES, "fc2").weight_bits == (8, 4)
    assert layer_rule(RULES[1:], "fc3") == LayerRule(layers=("fc3",))
    kept = BlockRule(blocks=("b",), drop=False)
    dropped = BlockRule(blocks="*", drop=True)
    assert merged(kept, [dropped], "b").drop
    assert not merged(kept, [dropped, kept], "b").drop


def test_rules_are_found_with_their_positions_by_kind_and_name() -> None:
    assert [index for index, _ in matching(RULES, LayerRule, "fc1")] == [0, 2]
    assert [index for index, _ in matching(RULES, SegmentRule, "fc1")] == [1]


def test_the_last_rule_that_speaks_of_ties_decides() -> None:
    assert tie_of(RULES, "conv1", LayerRule) == 0
    assert tie_of(RULES, "fc2", LayerRule) is None
    assert tie_of(RULES, "conv1", SegmentRule) is None


def test_a_scope_lists_what_is_left_out_once_and_knows_layers_with_codes(mapped) -> None:
    scope = Scope(
        architecture="",
        model_map=mapped("lenet"),
        rules=RULES,
        offered=capabilities(load_device("x86-avx512-vnni-ort")),
        goals=frozenset({"accuracy", "latency_s@other"}),
        find_ranks=None,
    )
    scope.leave_out("this", "of no use")
    scope.leave_out("this", "of no use")
    assert [(item.what, item.reason) for item in scope.left_out] == [("this", "of no use")]
    assert scope.is_timed
    assert scope.with_codes == {"fc2", "fc3"}
