"""Jobs on the digits, scored once in this process, for the tests of engines."""

from collections.abc import Callable
from types import ModuleType

import pytest

from paredown.search.calibrating import uniform
from paredown.search.proposing.coordinator import Coordinator
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.study import Evaluation, Rung


def coordinate(jobs, longest_s=lambda: None):
    """A coordinator of these jobs alone, and the list of (job, outcome) that it fills."""
    recorded = []

    def record(job, outcome):
        recorded.append((job, outcome))
        return Evaluation(
            number=len(recorded), key=job.candidate.key, candidate=job.candidate, rung=job.rung
        )

    coordinator = Coordinator(
        proposer=None,
        first=list(jobs),
        evaluations=len(jobs),
        batch=1,
        rung=Rung(),
        tell=record,
        longest_s=longest_s,
    )
    return coordinator, recorded


@pytest.fixture(scope="session", name="coordinate")
def _coordinate() -> Callable[..., tuple[Coordinator, list[tuple[Job, Outcome]]]]:
    return coordinate


@pytest.fixture(scope="session")
def sent_by_value() -> Callable[[ModuleType], None]:
    """Makes classes of a test's module travel with the evaluator: workers cannot import it."""
    from ray import cloudpickle

    return cloudpickle.register_pickle_by_value


@pytest.fixture(scope="session")
def jobs(workbench):
    return [
        Job(candidate=uniform(workbench.space, "", bits), rung=Rung(rows=96), label=f"{bits} bits")
        for bits in (8, 6, 4, 3)
    ]


@pytest.fixture(scope="session")
def local_scores(workbench, jobs):
    return {job.name: workbench.evaluator.evaluate(job.candidate, job.rung) for job in jobs}
