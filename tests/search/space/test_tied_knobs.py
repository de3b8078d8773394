"""A knob that several parts share offers what all of them allow."""

from __future__ import annotations

import pytest

from paredown.search.space.tied_knobs import SpaceError, check_untied, joined


def test_each_target_joins_and_may_take_values_away() -> None:
    knob = joined(None, 2, "weight_bits", "a", (32, 8, 4))
    assert (knob.name, knob.targets, knob.domain) == ("rule2:weight_bits", ("a",), (32, 8, 4))
    knob = joined(knob, 2, "weight_bits", "b", (4, 8))
    assert (knob.name, knob.targets, knob.domain) == ("rule2:weight_bits", ("a", "b"), (8, 4))
    with pytest.raises(SpaceError, match=r"rules\[2\]\.tie: .* share a value of weight_bits.*'c'"):
        joined(knob, 2, "weight_bits", "c", (32,))


def test_layers_that_find_their_own_ranks_are_not_tied() -> None:
    check_untied(None, "a")
    with pytest.raises(SpaceError, match=r"rules\[2\]\.tie: .* 'a' with rank_error"):
        check_untied(2, "a")
