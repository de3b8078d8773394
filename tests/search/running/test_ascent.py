"""Candidates climb as soon as it is known which, and the same ones whatever ends first."""

import random
from dataclasses import dataclass, replace

import pytest

from paredown.search.proposing.coordinator import Coordinator
from paredown.search.proposing.jobs import Outcome
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.promoting.promotion import Promotion
from paredown.search.running.ascent import Ascent
from paredown.search.study.evaluation import (
    UNCOMPRESSED,
    Evaluation,
    Failure,
    FailureKind,
    Goal,
    Score,
)
from paredown.search.study.rung import Recipe, Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
RUNGS = (
    Rung(number=1, recipe=Recipe(trainer="t 1", steps=10)),
    Rung(number=2, recipe=Recipe(trainer="t 1", steps=40)),
)
KEPT = {1: 12, 2: 6}


@dataclass(frozen=True)
class NoTerms:
    """Predicts no damage, so that scores are believed as they are."""

    def of(self, candidate):
        return {}


def candidate_of(i):
    return Candidate.of(layers={f"layer{i}": LayerChoice(weight_bits=2)})


@pytest.fixture(scope="module")
def harmed():
    """The uncompressed model, two that lost nothing, and forty that lost up to thirty points."""
    rng = random.Random(4)
    found = []
    for i in range(43):
        candidate = candidate_of(i)
        size = 1e5 * 0.95**i
        lost = 0.0 if i < 3 else 0.01 + 0.007 * i + rng.uniform(-0.004, 0.004)
        found.append(
            Evaluation(
                number=i,
                key=candidate.key,
                candidate=candidate,
                kind="search" if i else "reference",
                label="" if i else UNCOMPRESSED,
                metrics={"accuracy": 0.9 - lost, "onnx_bytes": size},
            )
        )
    return found


def ascent_of(harmed, kept=KEPT):
    first = Promotion(harmed, GOALS, harmed[0], NoTerms(), Outlook.of_training(GOALS))
    return Ascent(first, RUNGS, lambda _, rung: kept[rung.number])


class Trained(list):
    """What training makes of each: by chance 0.1 to 0.7 of the loss is left, on either rung."""

    def __init__(self, harmed, fails=(), begun=0):
        self.before = {e.key: e for e in harmed}
        self.fails = fails
        self.begun = begun

    def __call__(self, job, outcome):
        key = job.candidate.key
        first, is_trained = self.before[key], bool(job.rung.recipe.steps)
        share = random.Random(f"{key} {job.rung.number}").uniform(0.1, 0.7) if is_trained else 1.0
        accuracy = 0.9 - share * (0.9 - first.metrics["accuracy"])
        has_failed = is_trained and key in self.fails
        evaluation = replace(
            first,
            number=self.begun + len(self),
            rung=job.rung,
            metrics={} if has_failed else {**first.metrics, "accuracy": accuracy},
            trained=f"{key} {job.rung.number}" if is_trained and not has_failed else None,
            failure=Failure(kind=FailureKind.RAISED, sentence="no") if has_failed else None,
        )
        self.append((job, evaluation))
        return evaluation


DONE = Outcome(score=Score(metric=0.5, loss=1.0, images=10), failure=None, duration_s=0.1)


def climb(ascent, tell, workers, seed=0, known=None):
    """Carries an ascent out; seconds that it took where trainings take one to three, by chance."""
    rng = random.Random(seed)
    jobs = ascent.begin()
    coordinator = Coordinator(
        proposer=None,
        first=jobs,
        evaluations=len(jobs),
        batch=1,
        rung=RUNGS[-1],
        tell=tell,
        follow=ascent.follow,
        known=lambda job: (known or {}).get(job.name),
    )
    now, running, work = 0.0, [], []
    while not coordinator.is_done:
        while len(running) < workers and (job := coordinator.next()) is not None:
            work.append(rng.uniform(1, 3) if job.rung.recipe.steps else 0.0)
            running.append((now + work[-1], len(work), job))
        if running:
            now, _, job = running.pop(running.index(min(running, key=lambda each: each[:2])))
            coordinator.finish(job, DONE)
    return now, work


def names(told):
    return [(job.name, job.rung, job.begins) for job, _ in told]


def test_as_many_climb_as_are_kept_each_once_and_from_where_it_was(harmed):
    told = Trained(harmed)
    climb(ascent_of(harmed), told, workers=2)
    jobs = [job for job, _ in told]
    assert len({job.name for job in jobs}) == len(jobs)
    trained = [[j for j in jobs if j.rung == rung] for rung in RUNGS]
    assert [len(each) for each in trained] == [12, 6]
    assert {j.candidate.key for j in trained[1]} < {j.candidate.key for j in trained[0]}
    assert all(j.begins == f"{j.candidate.key} 1" for j in trained[1])
    assert {j.begins for j in trained[0]} == {""}
    beside = [j for j in jobs if not j.rung.recipe.steps]
    assert {j.candidate.key for j in beside} == {e.key for e in harmed[:3]}
    assert jobs[:3] == beside, "what is not trained is soon done"


def test_the_same_is_asked_whatever_ends_first(harmed):
    expected = Trained(harmed)
    climb(ascent_of(harmed), expected, workers=1)
    for workers in (1, 2, 3, 8):
        for seed in range(4):
            told = Trained(harmed)
            climb(ascent_of(harmed), told, workers, seed)
            assert names(told) == names(expected)


def test_no_worker_waits_while_there_is_something_to_train(harmed):
    for seed in range(20):
        took, work = climb(ascent_of(harmed), Trained(harmed), workers=2, seed=seed)
        # Where none waits, all ends within the longest training of one another.
        assert took <= sum(work) / 2 + max(work) / 2, f"seed {seed}"


def test_a_search_killed_at_any_training_goes_on_as_if_it_had_not_been(harmed):
    whole = Trained(harmed)
    climb(ascent_of(harmed), whole, workers=2)
    for count in range(len(whole) + 1):
        known = {job.name: evaluation for job, evaluation in whole[:count]}
        told = Trained(harmed, begun=count)
        ascent = ascent_of(harmed)
        climb(ascent, told, workers=2, known=known)
        assert names(told) == names(whole[count:])
        assert ascent.over == RUNGS[-1]


def test_what_climbs_first_leads_whatever_the_others_become(harmed):
    """Where one candidate beats the next in all goals, six lead; those that are out could be them."""
    same_size = [replace(e, metrics={**e.metrics, "onnx_bytes": 1e4}) for e in harmed]
    told = Trained(same_size)
    climb(ascent_of(same_size), told, workers=2)
    scores = {e.key: e.metrics["accuracy"] for j, e in told if j.rung == RUNGS[0]}
    best = sorted(scores, key=scores.get)[-6:]
    assert {j.candidate.key for j, _ in told if j.rung == RUNGS[1]} == set(best)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_failures_take_a_place_and_nothing_hangs(harmed, count):
    everything = {e.key for e in harmed}
    kept = {1: count, 2: count}
    told = Trained(harmed, fails=everything)
    ascent = ascent_of(harmed, kept)
    climb(ascent, told, workers=2)
    assert [job.rung.number for job, _ in told].count(1) == 3 + count
    assert [job.rung.number for job, _ in told].count(2) == 0
    assert ascent.over == RUNGS[0]


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_where_few_lost_anything_all_of_them_are_trained(harmed, size):
    ascent = ascent_of(harmed[:size])
    told = Trained(harmed)
    climb(ascent, told, workers=2)
    trained = [job for job, _ in told if job.rung == RUNGS[0]]
    assert len(trained) == max(0, size - 3)
    assert ascent.coming == 0
    assert (ascent.over is None) == (size <= 3)


def test_what_was_learned_from_the_first_decides_who_follows(harmed):
    """Where training gives nothing back, the second half is what harms least for its size."""

    class Useless(Trained):
        def __call__(self, job, outcome):
            before = self.before[job.candidate.key]
            evaluation = super().__call__(job, outcome)
            return replace(evaluation, metrics=before.metrics)

    follow = []
    for tell in (Trained(harmed), Useless(harmed)):
        climb(ascent_of(harmed), tell, workers=2)
        follow.append([j.candidate.key for j, _ in tell if j.rung == RUNGS[0]])
    assert follow[0][:6] == follow[1][:6]
    assert follow[0][6:] != follow[1][6:]
