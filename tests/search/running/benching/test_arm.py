"""What every arm keeps: its budget, one evaluation a candidate, the same history for a seed."""

from __future__ import annotations

import pytest

from paredown.search.running.benching.arms import arms_of

BUDGET = 17
SHORTER = (
    "uniforms",
    "only activations",
    "only rank",
    "only widths",
    "only drops",
    "union of single",
)
"""What may have fewer settings than the budget, or where two searches ask for the same."""


@pytest.fixture
def arms(workbench):
    """All but those that take their time: samplers by models of many candidates."""
    made = arms_of(workbench.space, "random")
    return [arm for arm in made if not arm.name.startswith(("gp", "tpe", "nsga"))]


def test_no_arm_goes_over_its_budget_or_asks_twice(arms, contest):
    for arm in arms:
        history = arm.carry_out(contest, 0, BUDGET)
        assert history[0] is contest.base
        assert len({e.key for e in history}) == len(history) <= BUDGET, arm.name
        if arm.name not in SHORTER:
            assert len(history) == BUDGET, arm.name


def test_the_same_seed_gives_the_same_history(arms, contest):
    for arm in arms:
        first, again, other = (arm.carry_out(contest, seed, BUDGET) for seed in (0, 0, 1))
        assert first == again, arm.name
        if arm.name.startswith(("random", "joint", "only bits")):
            assert first != other, arm.name


def test_arms_say_what_they_are(arms):
    assert len({arm.name for arm in arms}) == len({arm.text for arm in arms}) == len(arms)
