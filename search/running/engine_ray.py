"""Carries jobs out on Ray Tune: actors that keep the databases and take one candidate after another.

Tune schedules, restarts and reserves resources; what to try is the coordinator's, through a small
`Searcher`. Nothing is read back from Tune's own files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from paredown.search.config.schema import SearchSection
from paredown.search.evaluating.scoring import Evaluator
from paredown.search.proposing.coordinator import Coordinator
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.running.ray_remains import no_remains, own_sigterm
from paredown.search.running.ray_resources import (
    ClusterError,
    check_client,
    check_resources,
    cpus_per_worker,
)
from paredown.search.running.trial import carry_out
from paredown.search.study.evaluation import LOST, Score
from paredown.spaces.system.scratch import scratch_folder
from paredown.spaces.system.telemetry import SWITCHES

_QUIET = {
    **SWITCHES,
    "RAY_worker_niceness": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


MOST_LOST = 3
"""Workers that may end one after the other before the search does: what fails so often is not one
candidate's fault."""
_ERROR_LINES = 8


def run_ray(coordinator: Coordinator, evaluator: Evaluator, section: SearchSection) -> None:
    """Works until the coordinator has nothing more to do, on `section.workers` actors of a `ray_cluster`.

    Raises:
        ClusterError: Worker after worker ended.
    """
    from ray import tune

    # Tune gives an actor up, and all it has solved, unless the next trial waits already.
    coordinator.ahead = section.workers
    searcher, scheduler = _tune_parts(coordinator)
    with scratch_folder() as scratch:
        resources = {"cpu": cpus_per_worker(section)}
        if section.gpus_per_worker:
            resources["gpu"] = section.gpus_per_worker
        trainable = tune.with_parameters(
            _trainable(), evaluator=evaluator, threads=section.threads_per_worker
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=_most_at_once(section),
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=str(scratch),
                name="search",
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )
        tuner.fit()
    if searcher.lost_in_row >= MOST_LOST:
        raise ClusterError(
            f"workers must live for longer than one candidate, got {searcher.lost_in_row} in a row "
            f"that ended, the last so:\n{searcher.last_error}\nmend that, then --resume asks for "
            "the lost candidates again"
        )
    if not coordinator.is_done:
        raise ClusterError("Ray Tune ended before the search did; see its log, then use --resume")


def check_cluster(section: SearchSection) -> None:
    """Refuses what a worker asks for and no node has, before anything heavy is done.

    A cluster of our own has the CPUs that are asked for, so without GPUs there is nothing to ask it.

    Raises:
        ClusterError: As `ray_cluster`.
    """
    if section.ray_address is not None or section.gpus_per_worker > 0:
        with ray_cluster(section):
            return


@contextmanager
def ray_cluster(section: SearchSection, code_path: str = "") -> Iterator[None]:
    """The Ray cluster of a search: joined, or started on this machine and ended afterwards.

    Args:
        code_path: Folders of the user's code, for the workers' PYTHONPATH.

    Raises:
        ClusterError: There is none at the address, or it has not what a worker asks for.
    """
    os.environ.update(_QUIET)
    import logging

    import ray

    check_client(section.ray_address)
    environment = {"env_vars": {**_QUIET, "OMP_NUM_THREADS": str(section.threads_per_worker)}}
    if code_path:
        environment["env_vars"]["PYTHONPATH"] = code_path
    own = section.ray_address is None
    local: dict[str, Any] = (
        {"num_cpus": round(section.workers * cpus_per_worker(section))} if own else {}
    )
    logging.getLogger("ray").setLevel(logging.ERROR)
    with no_remains() if own else nullcontext():
        try:
            with own_sigterm(), _loopback() if own else nullcontext():
                ray.init(
                    address=section.ray_address or "local",
                    runtime_env=environment,
                    include_dashboard=False if own else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **local,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            if own:
                raise
            raise ClusterError(
                f"search.ray_address must lead to a running Ray cluster, got "
                f"{section.ray_address} ({error}); start one with `ray start --head`, or set it "
                "to null for a local one"
            ) from error
        except KeyboardInterrupt:  # half of it may be up
            ray.shutdown()
            raise
        try:
            check_resources(section, [node["Resources"] for node in ray.nodes() if node["Alive"]])
            yield
        finally:
            ray.shutdown()


@contextmanager
def _loopback() -> Iterator[None]:
    """A cluster started meanwhile listens on 127.0.0.1 alone.

    Ray does so where its clusters are one machine (macOS, Windows), and has one switch for it;
    `_node_ip_address` cannot ask for it, for Ray resolves 127.0.0.1 to an address others reach.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _most_at_once(section: SearchSection) -> int:
    """Trials handed to Tune at once: a cluster of our own has CPUs for `workers`, the rest wait.

    Without a limit Tune lets one trial wait at most. It gives an actor up where none waits, with all
    that it has solved, so as many wait as may end in the same moment.
    """
    return 2 * section.workers if section.ray_address is None else section.workers


def _trainable() -> type:
    from ray import tune

    class EvaluateCandidate(tune.Trainable):
        """One actor: built once, then reset from candidate to candidate."""

        def setup(  # type: ignore[override]
            self, config: dict[str, Any], evaluator: Evaluator, threads: int
        ) -> None:
            import torch

            torch.set_num_threads(threads)
            self._evaluator = evaluator
            self._job: Job = config["job"]

        def step(self) -> dict[str, Any]:
            outcome = carry_out(self._evaluator, self._job)
            score = outcome.score
            return {
                "score": (score.metric, score.loss, score.images) if score else None,
                "error": outcome.error,
                "duration_s": outcome.duration_s,
                "done": True,
            }

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._job = new_config["job"]
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None

        def load_checkpoint(self, checkpoint: Any) -> None:
            return None

    return EvaluateCandidate


def _tune_parts(coordinator: Coordinator) -> tuple[Any, Any]:
    """A searcher that asks the coordinator, and a scheduler that only keeps what failures say."""
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search import Searcher

    errors: dict[str, str] = {}

    class KeepErrors(FIFOScheduler):
        """Runs trials as they come; Tune tells a scheduler, not a searcher, why one failed."""

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            # `get_error` reads the trial's storage, where the file arrives later.
            if trial.error_file is not None:
                errors[trial.trial_id] = Path(trial.error_file).read_text("utf-8")

    class AskCoordinator(Searcher):
        """Hands the coordinator's jobs to Tune and their results back."""

        def __init__(self, coordinator: Coordinator) -> None:
            super().__init__(metric="duration_s", mode="min")
            self._coordinator = coordinator
            self._jobs: dict[str, Job] = {}
            self.lost_in_row = 0
            self.last_error = ""

        def __getstate__(self) -> dict[str, Any]:
            # Tune pickles its searcher beside its own state; nothing of ours is read back from there.
            return {}

        def suggest(self, trial_id: str) -> Any:
            if self._coordinator.is_done:
                return Searcher.FINISHED
            job = self._coordinator.next()
            if job is None:
                return Searcher.FINISHED if self._coordinator.is_done else None
            self._jobs[trial_id] = job
            return {"job": job}

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            job = self._jobs.pop(trial_id)
            outcome = _outcome(result, error, errors.pop(trial_id, ""))
            is_lost = (outcome.error or "").startswith(LOST)
            self.lost_in_row = self.lost_in_row + 1 if is_lost else 0
            if is_lost:
                self.last_error = outcome.error or ""
            self._coordinator.finish(job, outcome)
            if self.lost_in_row >= MOST_LOST:
                self._coordinator.stop("worker after worker ended")

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the journal is the one truth."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: a search resumes from its journal."""

    return AskCoordinator(coordinator), KeepErrors()


def _outcome(result: dict[str, Any] | None, error: bool, reason: str) -> Outcome:
    if error or not result or "duration_s" not in result:
        lines = [line for line in reason.strip().splitlines() if line.strip()]
        said = "\n".join(lines[-_ERROR_LINES:]) or "Ray gave no reason"
        told = f"{LOST}: the worker ended before the candidate was scored\n{said}"
        return Outcome(score=None, error=told, duration_s=0.0)
    score = result["score"]
    return Outcome(
        score=Score(metric=score[0], loss=score[1], images=score[2]) if score else None,
        error=result["error"],
        duration_s=result["duration_s"],
    )
