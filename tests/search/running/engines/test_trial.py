"""How long an evaluation may take, and what comes of what is raised in it."""

from dataclasses import dataclass, replace

import pytest

from paredown.compressors.training.kept import KeepingError
from paredown.search.config.schema import SearchSection
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.running.engines.trial import carry_out, longest_s
from paredown.spaces.candidates.candidate import Candidate


@pytest.fixture
def evaluations(make_evaluations):
    """Three references of 1, 7 and 2 seconds, then a candidate of 90."""
    durations = (1.0, 7.0, 2.0, 90.0)
    made = make_evaluations(4, 0)
    return [replace(e, duration_s=d) for e, d in zip(made, durations, strict=True)]


def test_by_default_twenty_times_the_slowest_reference_as_rows_grow(evaluations):
    assert longest_s(SearchSection(), evaluations) == 140.0
    assert longest_s(SearchSection(), evaluations, growth=2.5) == 350.0


def test_by_default_at_least_a_minute(evaluations):
    assert longest_s(SearchSection(), evaluations[:1]) == 60.0


def test_what_is_configured_holds_alone(evaluations):
    assert longest_s(SearchSection(evaluation_timeout_s=0.5), evaluations, growth=9.0) == 0.5


@dataclass(frozen=True)
class Raising:
    """An evaluator that raises this on every candidate."""

    error: Exception

    def solve(self, candidate, wait):
        """Nothing to solve."""

    def evaluate(self, candidate, rung, begins=""):
        raise self.error


def test_what_a_candidate_raises_is_its_failure_and_a_full_disk_is_not():
    raised = carry_out(Raising(ValueError("no")), Job(candidate=Candidate()))
    assert (raised.failure.sentence, raised.obstacle) == ("ValueError: no", "")
    full = carry_out(Raising(KeepingError("no room")), Job(candidate=Candidate()))
    assert (full.score, full.failure, full.obstacle) == (None, None, "no room")
    assert Outcome.from_json(full.to_json()) == full
