"""One contract for every method, on any shape: inside its set, and no worse than the baseline."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.compressors.layers.methods import METHODS, Compressed, Problem, compress
from paredown.compressors.matrix.algebra import SolverError, row_errors
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import (
    GROUPED_METHODS,
    METHODS_WITH_ZERO,
    GroupSize,
    LayerChoice,
    Method,
)
from paredown.spaces.candidates.zeros import BLOCK, Pattern, Zeros, kept_count

ZEROS = [
    (0.0, "dense"),
    (0.37, "element"),
    (0.8, "element"),
    (0.5, "2:4"),
    (0.3, "block"),
    (0.7, "block"),
]
ONE_BIT = [method for method in METHODS if method not in METHODS_WITH_ZERO]


def _is_inside(found: Compressed, choice: LayerChoice, shape: tuple[int, int]) -> None:
    assert found.values.shape == shape
    assert torch.isfinite(found.dense()).all()
    if choice.weight_bits == 32:
        assert found.scale is None
        assert found.values.dtype == torch.float32
    else:
        assert found.values.dtype == torch.int8
        assert int(found.values.abs().max()) <= max(1, 2 ** (choice.weight_bits - 1) - 1)
        assert choice.weight_bits > 1 or bool(found.values.all())
        assert found.scale.dtype == torch.float32
        assert (found.scale > 0).all()
    if choice.zeros.pattern == "dense":
        assert found.mask is None
        return
    assert int(found.mask.sum()) == kept_count(*shape, choice.zeros.share, choice.zeros.pattern)
    assert not found.values[~found.mask].any()
    if choice.zeros.pattern == "2:4":
        whole = shape[1] // 4 * 4
        fours = found.mask[:, :whole].reshape(shape[0], -1, 4)
        assert (fours.sum(dim=2) == 2).all()
    elif choice.zeros.pattern == "block":
        whole = shape[1] // BLOCK * BLOCK
        blocks = found.mask[:, :whole].reshape(shape[0], -1, BLOCK)
        assert torch.equal(blocks.any(dim=2), blocks.all(dim=2))
        assert found.mask[:, whole:].all()


def test_every_name_of_the_config_has_a_method() -> None:
    assert set(METHODS) == set(get_args(Method))


@pytest.mark.parametrize("method", list(METHODS))
@settings(max_examples=8, deadline=None)
@given(
    bits=st.sampled_from([2, 3, 4, 5, 6, 8, 32]),
    zeros=st.sampled_from(ZEROS),
    rows=st.integers(1, 5),
    columns=st.integers(1, 70),
    samples=st.integers(1, 90),
    weighted=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_every_solution_is_in_its_set_and_no_worse_than_rounding_and_magnitude(
    make_problem: Callable[..., Any],
    method: Method,
    bits: int,
    zeros: Any,
    rows: int,
    columns: int,
    samples: int,
    weighted: bool,
    seed: int,
) -> None:
    weight, gram = make_problem(seed, rows, columns, samples)
    curvature = torch.arange(rows).double() if weighted else None
    problem = Problem(target=Target.of(weight, gram), row_curvature=curvature)
    choice = LayerChoice(weight_bits=bits, zeros=Zeros(zeros[0], zeros[1]), method=method)
    before = weight.clone()
    found = compress(problem, choice)
    baseline = METHODS["rtn"](problem, choice)
    assert torch.equal(weight, before)
    _is_inside(found, choice, (rows, columns))
    assert problem.error(found) <= problem.error(baseline)
    again = compress(problem, choice)
    assert torch.equal(again.values, found.values)
    mirror = replace(problem, target=Target.of(-weight, gram))
    mirrored = compress(mirror, choice)
    if method != "adaround":  # whose learning counts from below, so that last digits differ
        assert torch.equal(mirrored.values, -found.values)
    assert mirror.error(mirrored) <= mirror.error(METHODS["rtn"](mirror, choice))


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("form", ["grouped", "one-hot", "silent", "dead"])
def test_every_method_takes_every_form_of_gram(
    make_problem: Callable[..., Any], method: Method, form: str
) -> None:
    weight, gram = make_problem(3, 4, 12, 60)
    if form == "grouped":
        gram = torch.stack([gram, make_problem(4, 4, 12, 60)[1]])
    elif form == "one-hot":
        gram = torch.linspace(0.0, 1.0, 12, dtype=torch.float64)
    elif form == "silent":
        gram = torch.zeros_like(gram)
    else:
        gram[3], gram[:, 3] = 0.0, 0.0
        weight[1] = 0.0
    problem = Problem(target=Target.of(weight, gram))
    for zeros in ZEROS:
        choice = LayerChoice(weight_bits=3, zeros=Zeros(zeros[0], zeros[1]), method=method)
        found = compress(problem, choice)
        _is_inside(found, choice, (4, 12))
        assert problem.error(found) <= problem.error(METHODS["rtn"](problem, choice))


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(
    ("weights", "inputs"), [(1e20, 1.0), (1e-20, 1.0), (1.0, 1e15), (1.0, 1e-20)]
)
def test_no_unit_is_too_large_or_too_small(
    make_problem: Callable[..., Any], method: Method, weights: float, inputs: float
) -> None:
    weight, gram = make_problem(6, 3, 13, 60)
    plain = Problem(target=Target.of(weight, gram))
    other = Problem(target=Target.of(weight * weights, gram * inputs**2))
    for zeros in (ZEROS[1], ZEROS[3], ZEROS[5]):
        choice = LayerChoice(weight_bits=3, zeros=Zeros(zeros[0], zeros[1]), method=method)
        found = compress(other, choice)
        _is_inside(found, choice, (3, 13))
        error = float(other.error(found)) / weights**2 / inputs**2
        assert error == pytest.approx(float(plain.error(compress(plain, choice))), rel=1e-2)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(
    make_problem: Callable[..., Any], method: Method, value: float
) -> None:
    weight, gram = make_problem(6, 3, 9, 60)
    for broken in (weight.clone(), gram.clone()):
        broken[1, 1] = value
        target = Target.of(
            broken if len(broken) == 3 else weight, broken if len(broken) == 9 else gram
        )
        problem = Problem(target=target)
        for zeros in (ZEROS[0], ZEROS[1]):
            choice = LayerChoice(weight_bits=3, zeros=Zeros(zeros[0], zeros[1]), method=method)
            with pytest.raises(SolverError, match="must be finite"):
                compress(problem, choice)


@settings(max_examples=20, deadline=None)
@given(
    method=st.sampled_from(ONE_BIT),
    size=st.sampled_from([0, 32]),
    rows=st.integers(1, 5),
    columns=st.integers(1, 70),
    seed=st.integers(0, 10**6),
)
def test_one_bit_is_a_sign_whatever_the_method_and_no_worse_than_rounding(
    make_problem: Callable[..., Any],
    method: Method,
    size: GroupSize,
    rows: int,
    columns: int,
    seed: int,
) -> None:
    weight, gram = make_problem(seed, rows, columns, 90)
    weight[0] = 0.0
    problem = Problem(target=Target.of(weight, gram))
    fits = method in GROUPED_METHODS
    choice = LayerChoice(weight_bits=1, method=method, group_size=size if fits else 0)
    found = compress(problem, choice)
    _is_inside(found, choice, (rows, columns))
    plain = compress(problem, replace(choice, method="rtn"))
    assert problem.error(found) <= problem.error(plain)


@pytest.mark.parametrize(
    "choice",
    [{"method": "obq"}, {"method": "adaround"}, {"zeros": Zeros(0.5, "element")}],
)
def test_one_bit_takes_no_zeros(make_problem: Callable[..., Any], choice: Any) -> None:
    problem = Problem(target=Target.of(*make_problem(0, 3, 8, 40)))
    with pytest.raises(
        SolverError, match=r"^1-bit codes have no zero, got .*; take 2 bits or more$"
    ):
        compress(problem, LayerChoice(weight_bits=1, **choice))


def test_a_method_that_went_wrong_yields_to_the_baseline(
    make_problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, gram = make_problem(0, 3, 8, 40)
    problem = Problem(target=Target.of(weight, gram))
    choice = LayerChoice(weight_bits=4, method="gptq")
    broken = Compressed(values=torch.full((3, 8), torch.nan), scale=None, mask=None)
    monkeypatch.setattr(
        "paredown.compressors.layers.methods.METHODS", {**METHODS, "gptq": lambda *_: broken}
    )
    assert torch.equal(compress(problem, choice).values, METHODS["rtn"](problem, choice).values)


def test_rows_that_matter_to_the_loss_keep_more_weights(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(5, 2, 40, 200)
    weight[1] = weight[0]
    curvature = torch.tensor([100.0, 1.0])
    patterns: tuple[Pattern, ...] = ("element", "block")
    methods: tuple[Method, ...] = ("laq", "gptq", "adaround", "obq", "descent", "joint")
    for pattern, method in itertools.product(patterns, methods):
        choice = LayerChoice(weight_bits=4, zeros=Zeros(0.5, pattern), method=method)
        found = compress(Problem(target=Target.of(weight, gram), row_curvature=curvature), choice)
        assert found.mask[0].sum() > found.mask[1].sum()


def test_rows_that_seem_free_keep_their_share_all_the_same(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(5, 2, 40, 200)
    weight[1] = weight[0]
    curvature = torch.tensor([1.0, 0.0])
    for method in ("laq", "gptq", "obq"):
        choice = LayerChoice(zeros=Zeros(0.5, "element"), method=method)
        found = compress(Problem(target=Target.of(weight, gram), row_curvature=curvature), choice)
        assert found.mask[1].sum() > 0.25 * found.mask[0].sum()


def test_better_methods_are_better_in_the_sum(make_problem: Callable[..., Any]) -> None:
    for bits, zeros in (
        (1, (0.0, "dense")),
        (2, (0.0, "dense")),
        (3, (0.0, "dense")),
        (3, (0.6, "element")),
        (3, (0.5, "block")),
    ):
        sums = dict.fromkeys(METHODS, 0.0)
        for seed in range(3):
            weight, gram = make_problem(seed, 16, 48, 300)
            for method in METHODS if bits > 1 else ONE_BIT:
                choice = LayerChoice(
                    weight_bits=bits, zeros=Zeros(zeros[0], zeros[1]), method=method
                )
                found = compress(Problem(target=Target.of(weight, gram)), choice)
                sums[method] += float(row_errors(found.dense() - weight, gram).sum())
        assert sums["joint"] <= sums["descent"] < sums["gptq"] < sums["laq"] < sums["rtn"]
        if bits == 1:
            continue
        assert sums["obq"] < sums["gptq"]
        assert sums["adaround"] < sums["gptq"]
