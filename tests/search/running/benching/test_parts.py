"""Arms that search parts of the space: equal budgets, and what each of them may touch."""

from __future__ import annotations

from itertools import pairwise

import pytest

from paredown.search.running.benching.parts import part_arms, shared
from paredown.search.running.benching.restricting import dimensions_of, restricted

BUDGET = 23
PRUNED = ("rank", "widths", "drops")


@pytest.fixture
def arms(workbench):
    return {arm.name: arm for arm in part_arms(workbench.space, "random")}


def kinds(candidate) -> set[str]:
    """Dimensions that a candidate departs from the uncompressed model in."""
    found = {"widths"} if candidate.widths else set()
    found |= {"drops"} if candidate.dropped else set()
    for _, choice in candidate.layers:
        found |= {"bits"} if choice.weight_bits != 32 else set()
        found |= {"rank"} if choice.rank.text != "whole" else set()
    return found | ({"activations"} if candidate.segments else set())


def test_there_is_one_for_each_dimension_and_those_of_several(arms, workbench):
    singles = [f"only {d.name}" for d in dimensions_of(workbench.space)]
    assert list(arms) == ["joint", *singles, "union of single", "prune then quantise"]
    one = restricted(workbench.space, dimensions_of(workbench.space)[:1])
    assert part_arms(one, "random") == ()


def test_a_single_dimension_is_searched_alone(arms, contest):
    for name in ("bits", "rank", "widths", "drops"):
        searched = arms[f"only {name}"].carry_out(contest, 0, BUDGET)[1:]
        assert searched
        assert set().union(*(kinds(e.candidate) for e in searched)) <= {name}


def test_the_union_is_of_the_single_dimensions_in_turn(arms, contest, workbench):
    union = arms["union of single"].carry_out(contest, 0, BUDGET)
    names = [d.name for d in dimensions_of(workbench.space)]
    for evaluation in union:
        assert len(kinds(evaluation.candidate)) <= 1 or kinds(evaluation.candidate) == {
            "bits",
            "activations",  # 8-bit activations have 8-bit weights
        }
    shares = shared(BUDGET - 1, len(names))
    singles = [
        arms[f"only {name}"].carry_out(contest, 0, 1 + s)
        for name, s in zip(names, shares, strict=True)
    ]
    assert {e.key for e in union} == {e.key for single in singles for e in single}
    # Each has had its turn before one has its second.
    assert {e.key for e in union[: 1 + len(names)]} == {
        e.key for single in singles for e in single[:2]
    }


def test_pruned_models_come_first_and_what_is_quantised_is_pruned_as_one_of_them(arms, contest):
    history = arms["prune then quantise"].carry_out(contest, 0, BUDGET)
    pruned = history[1:12]
    assert all(kinds(e.candidate) <= set(PRUNED) for e in pruned)

    def _structure(candidate):
        ranks = tuple((n, c.rank) for n, c in candidate.layers if c.rank.text != "whole")
        return (candidate.widths, candidate.dropped, ranks)

    known = {_structure(e.candidate) for e in (*history[:1], *pruned)}
    quantised = history[12:]
    assert {_structure(e.candidate) for e in quantised} <= known
    assert any(kinds(e.candidate) & {"bits", "activations"} for e in quantised)
    assert len({_structure(e.candidate) for e in quantised}) <= 4


@pytest.mark.parametrize(("count", "parts"), [(8, 3), (2, 5), (0, 4), (-3, 2), (10, 1)])
def test_shares_are_even_and_add_up(count, parts):
    shares = shared(count, parts)
    assert (len(shares), sum(shares)) == (parts, max(count, 0))
    assert all(a - b in (0, 1) for a, b in pairwise(shares))
    assert shares[0] - shares[-1] in (0, 1)
