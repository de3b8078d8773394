"""A record without more than a function takes the careful answers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from paredown.spaces.graph.facts import LayerFacts, OperatorFacts

UNKNOWN = OperatorFacts(torch.Tensor.exp, None)


def test_the_defaults_promise_nothing() -> None:
    assert UNKNOWN.channels is None
    assert UNKNOWN.integer_kernel is None
    assert UNKNOWN.layer is None
    assert UNKNOWN.kind == "move"
    assert not UNKNOWN.moves_data
    assert not UNKNOWN.fuses_into_layer


@pytest.mark.parametrize("fact", ["is_clamp", "float_gemm_takes"])
def test_clamps_and_what_a_gemm_takes_run_inside_the_kernel_before_them(fact: str) -> None:
    assert dataclasses.replace(UNKNOWN, **{fact: True}).fuses_into_layer


@pytest.mark.parametrize("out_axis", [0, 1])
def test_inputs_lie_on_the_other_axis(out_axis: int) -> None:
    assert {LayerFacts("linear", out_axis=out_axis).in_axis, out_axis} == {0, 1}


def test_records_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        UNKNOWN.kind = "add"  # type: ignore[misc]
