"""Sizes agree with the arithmetic that they stand for."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._sympy.functions import FloorDiv, Mod

from paredown.spaces.graph.sizes import Size, SizeError, check_term, read_size

S, U, T = (sympy.Symbol(name, integer=True, positive=True) for name in ("s1", "s2", "s3"))
AXES = {S: "batch", U: "batch", T: "time"}


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_expressions_keep_their_values(batch: int, time: int) -> None:
    axes = {"batch": batch, "time": time}
    for expression, value in (
        (3 * S, 3 * batch),
        (S * T - 2, batch * time - 2),
        (FloorDiv(T - 3, 2) + 1, (time - 3) // 2 + 1),
        (4 * FloorDiv(T, 4) + Mod(T, 4), time),
        (T**2 * S, time * time * batch),
        (sympy.Integer(7) * S + U, 8 * batch),
    ):
        size = read_size(expression, AXES)
        assert isinstance(size, Size)
        assert size.at(axes) == value


def test_two_symbols_of_one_axis_are_one() -> None:
    assert read_size(S + U, AXES) == Size.of_batch(2)
    assert read_size(S - U, AXES) == 0


def test_a_number_is_a_number() -> None:
    assert read_size(sympy.Integer(12), AXES) == 12


def test_multiples_of_the_batch_are_known() -> None:
    assert Size.of_batch().batches == 1
    assert Size.of_batch(4).batches == 4
    assert Size("time").batches is None


def test_what_cannot_be_kept_is_refused() -> None:
    other = sympy.Symbol("u0", integer=True)
    with pytest.raises(SizeError, match="u0"):
        read_size(other + S, AXES)
    for term in (("/", 1, 2), ("//", 1, 2, 3), "width", ("+", 1), None):
        with pytest.raises(SizeError, match="must be made of"):
            check_term(term)


def test_axes_are_named_once() -> None:
    assert Size(("+", "time", ("*", 2, "batch", "time"))).axes == {"batch", "time"}
