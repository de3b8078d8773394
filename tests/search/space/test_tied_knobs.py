"""A knob that several parts share offers what all of them allow."""

from __future__ import annotations

import pytest

from paredown.search.space.tied_knobs import SpaceError, check_untied, tied
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob


def bits(target: str, *domain: int) -> WeightBitsKnob:
    return WeightBitsKnob(name=f"{target}:weight_bits", targets=(target,), domain=domain)


def test_each_target_joins_and_may_take_values_away() -> None:
    alone = bits("x", 32, 8)
    method = MethodKnob(name="a:method", targets=("a",), domain=("gptq",))
    found = tied([(2, bits("a", 32, 8, 4)), (2, method), (None, alone), (2, bits("b", 4, 8))])
    assert found[0] == alone
    shared, methods = found[1:]
    assert (shared.name, shared.targets, shared.domain) == (
        "rule2:weight_bits",
        ("a", "b"),
        (8, 4),
    )
    assert (methods.name, methods.targets) == ("rule2:method", ("a",))


def test_parts_with_no_value_in_common_are_refused() -> None:
    pattern = r"rules\[2\]\.tie: .* share a value of weight_bits, got 8, 4 and 32 for 'c'"
    with pytest.raises(SpaceError, match=pattern):
        tied([(2, bits("a", 8, 4)), (2, bits("c", 32))])


def test_layers_that_find_their_own_ranks_are_not_tied() -> None:
    check_untied(None, "a")
    with pytest.raises(SpaceError, match=r"rules\[2\]\.tie: .* 'a' with rank_error"):
        check_untied(2, "a")
