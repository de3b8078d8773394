"""What Ray Tune is given: actors that carry jobs out, and a searcher that hands them the coordinator's.

Tune keeps its own files, from which nothing is read back: the journal is the one truth.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from paredown.search.evaluating.scoring import Evaluator
from paredown.search.proposing.coordinator import MOST_LOST, Coordinator
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.running.engines.trial import carry_out
from paredown.search.study.evaluation import Failure, FailureKind

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

_ERROR_LINES = 8
_Config = dict[str, Job]
_Result = dict[str, str | float | bool]


class EvaluateCandidate(tune.Trainable):
    """One actor: built once, then reset from candidate to candidate."""

    def setup(  # type: ignore[override]  # `with_parameters` gives it the others
        self, config: _Config, evaluator: Evaluator, threads: int
    ) -> None:
        """Takes what it evaluates with, and the first job."""
        evaluator.prepare_process(threads)
        self._evaluator = evaluator
        self._job = config["job"]

    def step(self) -> _Result:
        """Carries the job out; the outcome is a text, for Tune takes mappings apart."""
        outcome = carry_out(self._evaluator, self._job)
        text = json.dumps(outcome.to_json())
        return {"outcome": text, "duration_s": outcome.duration_s, "done": True}

    def reset_config(self, new_config: _Config) -> bool:
        """Takes the next job."""
        self._job = new_config["job"]
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a job is carried out whole or not at all."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing, as none is saved."""


class KeepErrors(FIFOScheduler):
    """Runs trials as they come; Tune reports to a scheduler, not to a searcher, why one failed."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, str] = {}

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Keeps what Ray says of the worker's end."""
        # `get_error` reads the trial's storage, where the file arrives later.
        if trial.error_file is not None:
            self.errors[trial.trial_id] = Path(trial.error_file).read_text("utf-8")


class AskCoordinator(Searcher):
    """Hands the coordinator's jobs to Tune and their results back.

    Args:
        errors: By trial why its worker ended, as `KeepErrors` fills it.
    """

    def __init__(self, coordinator: Coordinator, errors: dict[str, str]) -> None:
        super().__init__(metric="duration_s", mode="min")
        self._coordinator = coordinator
        self._errors = errors
        self._jobs: dict[str, Job] = {}

    def __getstate__(self) -> dict[str, object]:
        # Tune pickles its searcher beside its own state; nothing of ours is read back from there.
        return {}

    def suggest(  # type: ignore[override]  # FINISHED is a text
        self, trial_id: str
    ) -> _Config | str | None:
        """The next job; FINISHED where there will be none, None where one must wait."""
        if self._coordinator.is_done:
            return str(Searcher.FINISHED)
        job = self._coordinator.next()
        if job is None:
            return str(Searcher.FINISHED) if self._coordinator.is_done else None
        self._jobs[trial_id] = job
        return {"job": job}

    def on_trial_complete(
        self, trial_id: str, result: _Result | None = None, error: bool = False
    ) -> None:
        """Reports the outcome, and stops the coordinator where worker after worker ends."""
        job = self._jobs.pop(trial_id)
        outcome = outcome_of(result, error, self._errors.pop(trial_id, ""))
        self._coordinator.finish(job, outcome)
        if self._coordinator.lost_in_row >= MOST_LOST:
            self._coordinator.stop("worker after worker ended")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the one truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a search resumes from its journal."""


def outcome_of(result: _Result | None, error: bool, reason: str) -> Outcome:
    """What came of a trial: what its actor reported, or that the worker was lost, and Ray's `reason`."""
    if error or not result or "outcome" not in result:
        lines = [line for line in reason.strip().splitlines() if line.strip()]
        failure = Failure(
            kind=FailureKind.WORKER_LOST,
            sentence="the worker ended before the candidate was scored",
            where="\n".join(lines[-_ERROR_LINES:]) or "Ray gave no reason",
        )
        return Outcome(score=None, failure=failure, duration_s=0.0)
    return Outcome.from_json(json.loads(str(result["outcome"])))
