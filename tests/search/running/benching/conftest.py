"""Contests of searches on the digits whose scores are invented, so that only prices are real."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.coordinator import Coordinator
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.running.benching.arms import SamplerArm, UniformArm
from paredown.search.running.benching.contests import Contest
from paredown.search.running.benching.outcomes import OutcomeFile
from paredown.search.running.benching.result import BenchResult, Run
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind, Goal, Score
from paredown.spaces.candidates.candidate import Candidate

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)


class Inventor:
    """An engine that scores by the candidate's key, fails one in three, and keeps the keys."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def run(self, coordinator: Coordinator) -> None:
        while not coordinator.is_done:
            job = coordinator.next()
            if job is not None:
                coordinator.finish(job, self._outcome(job))

    def _outcome(self, job: Job) -> Outcome:
        self.keys.append(job.candidate.key)
        number = int(job.candidate.key, 16) % 1000
        if job.kind == "search" and number % 3 == 0:
            failure = Failure(kind=FailureKind.RAISED, sentence="ValueError: invented")
            return Outcome(score=None, failure=failure, duration_s=0.1)
        score = Score(metric=number / 1000, loss=1.0, images=10)
        return Outcome(score=score, failure=None, duration_s=0.1)


class Counter:
    """Counts what is new, and what was known."""

    def __init__(self) -> None:
        self.new = self.known = 0

    def evaluated(self, evaluation: Evaluation, *, is_new: bool) -> None:
        self.new += is_new
        self.known += not is_new


@pytest.fixture(scope="session")
def base(workbench: Workbench) -> Evaluation:
    return workbench.evaluate_uncompressed(workbench.rungs[0])


@pytest.fixture
def inventor() -> Inventor:
    return Inventor()


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def contest_at(
    workbench: Workbench, base: Evaluation, inventor: Inventor, counter: Counter
) -> Callable[[Path], Contest]:
    """Path of a file of outcomes -> a contest with it."""

    names = [goal.metric for goal in GOALS]
    sections = [goal for goal in workbench.config.goals if goal.metric in names]
    two = replace(workbench, config=workbench.config.model_copy(update={"goals": sections}))

    def make(path: Path) -> Contest:
        file = OutcomeFile(path, "digits", two.rungs[0])
        return Contest(two, GOALS, base, inventor, file, counter)

    return make


@pytest.fixture
def contest(contest_at: Callable[[Path], Contest], tmp_path: Path) -> Contest:
    return contest_at(tmp_path / "outcomes.jsonl")


Curves = Mapping[tuple[str, int], Sequence[Sequence[float]]]


@pytest.fixture(scope="session")
def made_result() -> Callable[..., BenchResult]:
    """{(arm, budget): a curve for each seed} -> a result with 1,000 images an evaluation."""

    def make(curves: Curves, best: float = 0.5, *, is_whole: bool = True) -> BenchResult:
        runs = [
            Run(
                arm=arm,
                seed=seed,
                budget=budget,
                history=tuple(
                    Evaluation(number=i, key=f"{i:012x}", candidate=Candidate())
                    for i in range(len(volumes))
                ),
                volumes=tuple(volumes),
            )
            for (arm, budget), each in curves.items()
            for seed, volumes in enumerate(each)
        ]
        names = dict.fromkeys(arm for arm, _ in curves if arm != "uniforms")
        return BenchResult(
            name="made",
            goals=GOALS,
            rows=1000,
            reference=(-0.8, 9.0),
            arms=(UniformArm(), *(SamplerArm(sampler=name) for name in names)),
            runs=tuple(runs),
            best_volume=best,
            best_members=3,
            known=40,
            joined=0,
            is_whole=is_whole,
        )

    return make
