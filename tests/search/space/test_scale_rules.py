"""Sizes of groups: which make a difference to a layer, and what each other one is left out for."""

from __future__ import annotations

import pytest

from paredown.search.config.schema_space import LayerRule
from paredown.search.space.scale_rules import ScaleRuleError, group_sizes
from paredown.spaces.candidates.candidate import GROUPED_METHODS, SegmentChoice
from paredown.spaces.structure.model_map import Layer

FLOAT, EIGHT = SegmentChoice(), SegmentChoice(activation_bits=8)


def rule(**fields: tuple[int | str, ...]) -> LayerRule:
    return LayerRule.model_validate({"layers": ("*",), **fields})


def layer(columns: int, kind: str = "linear") -> Layer:
    return Layer(
        name="fc", nodes=("fc",), kind=kind, weight="fc.weight", bias=None,
        weight_shape=(8, columns), out_axis=0, in_axis=1, groups=1, macs=8 * columns,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "asked", "sizes"),
    [
        (200, (0, 32, 128), (32, 128, 0)),
        (200, (64, 32), (32, 64)),
        (128, (32, 128), (32, 0)),  # a group as long as the row is one scale
        (128, (0, 128), ()),
        (32, (32, 64, 128), ()),
        (200, (0,), ()),
    ],
)
def test_the_smallest_groups_come_first_and_whole_rows_last(columns, asked, sizes) -> None:
    found, gone = group_sizes(layer(columns), rule(group_size=asked), (FLOAT, EIGHT))
    assert found == sizes
    assert len(gone) == sum(size >= columns for size in asked)
    assert all(str(columns) in item.reason for item in gone)


def test_nothing_is_offered_where_no_kernel_reads_it() -> None:
    asked = rule(group_size=(32,))
    for kind, segments in (("conv2d", (FLOAT,)), ("linear", (EIGHT,))):
        found, (item,) = group_sizes(layer(100, kind), asked, segments)
        assert found == ()
        assert item.reason
    assert group_sizes(layer(100), rule(), (FLOAT,)) == ((), ())


def test_methods_of_one_scale_a_row_are_refused_with_what_to_change() -> None:
    asked = rule(group_size=(0, 32), method=("gptq", "joint"))
    with pytest.raises(
        ScaleRuleError, match=r"'fc' .* rtn, laq, .*group_size 32, got joint; take"
    ):
        group_sizes(layer(100), asked, (FLOAT,))
    assert group_sizes(layer(20), asked, (FLOAT,))[0] == ()
    fine = rule(group_size=(0, 32), method=GROUPED_METHODS)
    assert group_sizes(layer(100), fine, (FLOAT,))[0] == (32, 0)
