"""Rungs: records that come back from JSON, and the one rule that only equal ones are compared."""

import json
from dataclasses import replace

import pytest

from paredown.search.study.evaluation import of_rung
from paredown.search.study.pareto import front_of, standing_of
from paredown.search.study.rows import references_of
from paredown.search.study.rung import Recipe, Rung

TRAINED = Recipe(trainer="rescale 1", steps=160, batch_rows=128, seed=7)
RUNGS = (
    Rung(),
    Rung(rows=1500),
    Rung(number=1),
    Rung(number=1, recipe=TRAINED),
    Rung(number=1, recipe=replace(TRAINED, seed=8)),
)


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_comes_back_exactly_from_its_json(rung):
    assert Rung.from_json(json.loads(json.dumps(rung.to_json()))) == rung


@pytest.mark.parametrize("change", [{"recipe": None}, {"colour": "blue"}])
def test_what_is_no_rung_is_refused(change):
    with pytest.raises(TypeError, match=r"recipe must be a mapping|colour"):
        Rung.from_json(Rung().to_json() | change)


@pytest.mark.parametrize("rung", RUNGS)
def test_only_evaluations_of_an_equal_rung_are_compared(goals, make_evaluations, rung):
    # Each model is scored on every rung, always the same.
    scored = [replace(e, rung=each) for e in make_evaluations(12) for each in RUNGS]
    alone = [replace(e, rung=rung) for e in make_evaluations(12)]
    assert list(of_rung(scored, rung)) == alone
    assert front_of(scored, goals, rung).members == front_of(alone, goals, rung).members
    assert references_of(scored, rung) == references_of(alone, rung)
    assert len(references_of(scored, rung)) == 2


def test_models_trained_alike_are_compared_however_long():
    short, long = (
        Rung(number=n, recipe=replace(TRAINED, steps=s)) for n, s in ((1, 160), (2, 800))
    )
    assert short.compares_with(long)
    assert not short.compares_with(replace(long, rows=1500))
    assert not short.compares_with(replace(long, recipe=replace(TRAINED, trainer="rescale 2")))
    assert not short.compares_with(Rung(number=1))


def test_of_a_model_that_was_trained_further_the_front_keeps_the_better_one(
    goals, make_evaluations
):
    short, long = (
        Rung(number=n, recipe=replace(TRAINED, steps=s)) for n, s in ((1, 160), (2, 800))
    )
    first = [replace(e, rung=short) for e in make_evaluations(12)]
    for change, expected in ((0.01, 2), (0.0, 2), (-0.01, 1)):
        later = [
            replace(
                e,
                number=e.number + len(first),
                rung=long,
                metrics={**e.metrics, "accuracy": e.metrics["accuracy"] + change},
            )
            for e in first
        ]
        members = front_of([*first, *later], goals, long).members
        assert len({m.key for m in members}) == len(members)
        assert {m.rung.number for m in members} == {expected}
        front = front_of([*first, *later], goals, long)
        for one, other in zip(first, later, strict=True):
            standing = standing_of([one, other], front)
            # Beside the front the highest rung stands.
            assert standing.rung.number == (expected if one.key in front.keys else 2)
