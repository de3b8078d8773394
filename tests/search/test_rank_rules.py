"""Ranks and forms that save nothing, or that the device does not run, are no choice."""

from __future__ import annotations

import pytest

from paredown.search.rank_rules import WHOLE, rank_domain
from paredown.spaces.factors import factor_chain, weight_count
from paredown.spaces.model_map import Layer

FORMS = ("channel", "spatial", "tucker")


def layer_of(*shape: int) -> Layer:
    kind = "conv2d" if len(shape) == 4 else "linear"
    return Layer(
        name="it", node="it", kind=kind, weight="it.weight", bias=None, weight_shape=shape,
        out_axis=0, in_axis=1, groups=1, macs=0,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (8, 40, 1, 5), (64, 3, 7, 7), (30, 20)])
def test_values_come_by_falling_weights_and_every_one_is_smaller(shape) -> None:
    layer = layer_of(*shape)
    found = rank_domain(layer, (0.1, 1.0, 0.5, 0.3), FORMS, 1, lambda *_: None)
    assert found[0] == WHOLE
    sizes = [weight_count(factor_chain(layer, shape, *value)) for value in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(found)) == len(found)
    assert all(size < sizes[0] for size in sizes[1:])


def test_a_linear_layer_has_one_form_whatever_is_asked() -> None:
    found = rank_domain(layer_of(40, 40), (0.25,), ("spatial", "tucker"), 1, lambda *_: None)
    assert found == ((0.25, "channel", None),)


def test_a_layer_that_no_rank_makes_smaller_stays_whole_and_it_is_said() -> None:
    told: list[tuple[str, str]] = []
    found = rank_domain(
        layer_of(16, 16, 3, 3), (0.9, 0.5), ("spatial",), 1, lambda *item: told.append(item)
    )
    assert found == (WHOLE,)
    assert told[0][0] == "decomposition spatial of it"
    assert rank_domain(layer_of(16, 16), (0.9,), ("channel",), 1, lambda *_: None) == (WHOLE,)


def test_every_rank_of_a_chain_is_a_multiple_of_the_step() -> None:
    told: list[str] = []
    layer = layer_of(64, 24, 3, 3)
    found = rank_domain(layer, (1.0, 0.25), FORMS, 16, lambda what, _: told.append(what))
    # 16 of 64; 18 of 72; 6 of 24 and 16 of 64.
    assert found == (WHOLE, (0.25, "channel"))
    assert told == ["rank 18 of it", "rank 6 of it"]
