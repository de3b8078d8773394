"""Ranks and forms that save nothing, or that the device does not run, are no choice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paredown.compressors.low_rank.rank_by_error import Found
from paredown.search.space.rank_rules import rank_domain
from paredown.spaces.candidates.factors import factor_chain, weight_count
from paredown.spaces.candidates.ranks import WHOLE, Rank
from paredown.spaces.structure.model_map import Layer

FORMS = ("channel", "spatial", "tucker")


def layer_of(*shape: int) -> Layer:
    kind = "conv2d" if len(shape) == 4 else "linear"
    return Layer(
        name="it", nodes=("it",), kind=kind, weight="it.weight", bias=None, weight_shape=shape,
        out_axis=0, in_axis=1, groups=1, macs=0,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (8, 40, 1, 5), (64, 3, 7, 7), (30, 20)])
def test_values_come_by_falling_weights_and_every_one_is_smaller(shape) -> None:
    layer = layer_of(*shape)
    found = rank_domain(layer, (0.1, 1.0, 0.5, 0.3), FORMS, 1, lambda *_: None)
    assert found[0] == WHOLE
    sizes = [weight_count(factor_chain(layer, shape, value)) for value in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(found)) == len(found)
    assert all(size < sizes[0] for size in sizes[1:])


def test_a_linear_layer_has_one_form_whatever_is_asked() -> None:
    found = rank_domain(layer_of(40, 40), (0.25,), ("spatial", "tucker"), 1, lambda *_: None)
    assert found == (Rank(0.25),)


def test_a_layer_that_no_rank_makes_smaller_stays_whole_and_it_is_said() -> None:
    told: list[tuple[str, str]] = []
    found = rank_domain(
        layer_of(16, 16, 3, 3), (0.9, 0.5), ("spatial",), 1, lambda *item: told.append(item)
    )
    assert found == (WHOLE,)
    assert told[0][0] == "decomposition spatial of it"
    square = layer_of(16, 16)
    assert rank_domain(square, (0.9,), FORMS, 1, lambda *item: told.append(item)) == (WHOLE,)
    assert told[1:] == [("decomposition channel of linear layers of 16 x 16", told[0][1])]


def test_every_rank_of_a_chain_is_a_multiple_of_the_step() -> None:
    told: list[str] = []
    layer = layer_of(64, 24, 3, 3)
    found = rank_domain(layer, (1.0, 0.25), FORMS, 16, lambda what, _: told.append(what))
    # 16 of 64; 18 of 72; 6 of 24 and 16 of 64.
    assert found == (WHOLE, Rank(0.25))
    assert told == ["rank 18 of it", "rank 6 of it"]


def found(*ranks: int) -> Found:
    return Found(ranks=ranks, lost=0.01)


def test_ranks_by_error_join_those_by_share_and_equal_chains_are_one_value() -> None:
    layer = layer_of(16, 16, 3, 3)
    answers = {
        "channel": {0.02: None, 0.1: found(8), 0.2: found(3)},
        "tucker": {0.02: found(8, 12), 0.1: found(4, 4), 0.2: found(4, 4)},
    }
    told: list[tuple[str, str]] = []
    values = rank_domain(
        layer, (1.0, 0.51), ("channel", "tucker"), 1, lambda *item: told.append(item),
        lambda form: answers[form],
    )  # fmt: skip
    # Rank 8 of "channel" is there as the share that was offered.
    assert values == (
        WHOLE, Rank(0.51), Rank(8 / 16, "tucker", 12 / 16), Rank(0.51, "tucker"),
        Rank(3 / 16), Rank(4 / 16, "tucker"),
    )  # fmt: skip
    (item,) = told
    assert item[0] == "decomposition channel of it"
    assert "at an error of 0.02 it would hold no fewer weights" in item[1]


def test_an_error_that_no_form_keeps_is_kept_by_the_whole_layer() -> None:
    layer = layer_of(16, 16, 3, 3)
    never = {0.02: None, 0.1: None}
    found_by_one = {0.02: None, 0.1: found(3)}

    def domain(channel, spatial):
        answers = {"channel": channel, "spatial": spatial}
        return rank_domain(
            layer, (), ("channel", "spatial"), 1, lambda *_: None, lambda form: answers[form]
        )

    assert domain(never, never) == (WHOLE,)
    assert domain(found_by_one, never) == (WHOLE, Rank(3 / 16))
    assert domain({0.02: found(8), 0.1: found(3)}, never) == (
        Rank(8 / 16), Rank(3 / 16),
    )  # fmt: skip


def test_layers_without_a_low_rank_are_listed_once_for_their_kind() -> None:
    depthwise = replace(layer_of(16, 1, 3, 3), groups=16)
    told: list[tuple[str, str]] = []

    def never(form: str) -> dict[float, Found | None]:
        raise AssertionError(form)

    values = rank_domain(depthwise, (), FORMS, 1, lambda *item: told.append(item), by_error=never)
    assert values == (WHOLE,)
    assert [what for what, _ in told] == ["rank_error of grouped conv2d layers"]
