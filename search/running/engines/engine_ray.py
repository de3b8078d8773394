"""Carries jobs out on Ray Tune: actors that keep the databases and take one candidate after another.

Tune schedules, restarts and reserves resources; what to try is the coordinator's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paredown.search.config.schema import SearchSection
from paredown.search.evaluating.scoring import Evaluator
from paredown.search.proposing.coordinator import MOST_LOST, Coordinator
from paredown.search.running.engines.ray_remains import no_remains, own_sigterm
from paredown.search.running.engines.ray_resources import (
    ClusterError,
    check_client,
    check_resources,
    cpus_per_worker,
    gpus_per_worker,
)
from paredown.spaces.system.scratch import scratch_folder
from paredown.spaces.system.telemetry import SWITCHES

if TYPE_CHECKING:
    from ray import tune

    from paredown.search.running.engines.ray_trials import AskCoordinator, KeepErrors

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


class RayEngine:
    """`search.workers` actors of the `ray_cluster` that is up, each reset from candidate to candidate."""

    def __init__(self, evaluator: Evaluator, section: SearchSection) -> None:
        self._evaluator = evaluator
        self._section = section

    def run(self, coordinator: Coordinator) -> None:
        """Works until the coordinator has nothing more to do.

        Raises:
            ClusterError: Worker after worker ended.
        """
        from paredown.search.running.engines.ray_trials import AskCoordinator, KeepErrors

        # Tune gives an actor up, and all it has solved, unless the next trial waits already.
        coordinator.ahead = self._section.workers
        scheduler = KeepErrors()
        searcher = AskCoordinator(coordinator, scheduler.errors)
        with scratch_folder() as scratch:
            self._tuner(searcher, scheduler, scratch).fit()
        if coordinator.lost_in_row >= MOST_LOST:
            raise ClusterError(
                f"workers must live for longer than one candidate, got {coordinator.lost_in_row} in a "
                f"row that ended, the last so:\n{coordinator.last_lost}\nmend that, then --resume asks "
                "for the lost candidates again"
            )
        if not coordinator.is_done:
            raise ClusterError(
                "Ray Tune ended before the search did; see its log, then use --resume"
            )

    def _tuner(self, searcher: AskCoordinator, scheduler: KeepErrors, scratch: Path) -> tune.Tuner:
        from ray import tune

        from paredown.search.running.engines.ray_trials import EvaluateCandidate

        section = self._section
        resources = {"cpu": cpus_per_worker(section)}
        if gpus := gpus_per_worker(section, _nodes()):
            resources["gpu"] = gpus
        trainable = tune.with_parameters(
            EvaluateCandidate, evaluator=self._for_workers(), threads=section.threads_per_worker
        )
        return tune.Tuner(
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

    def _for_workers(self) -> Evaluator:
        """On a cluster that was joined, workers may be machines that do not see the run's folder."""
        from paredown.search.running.engines.ray_files import drivers_disk

        if self._section.ray_address is None or self._evaluator.recovery is None:
            return self._evaluator
        recovering = self._evaluator.recovery
        # Not every process of the cluster is where the search was started.
        folder = recovering.kept.folder.absolute()
        kept = replace(recovering.kept, folder=folder, files=drivers_disk())
        return replace(self._evaluator, recovery=replace(recovering, kept=kept))


def check_cluster(section: SearchSection, *, is_trained: bool = False) -> None:
    """Refuses what a worker asks for and no node has, before anything heavy is done.

    A cluster of our own has the CPUs that are asked for, so without GPUs there is nothing to ask it.

    Args:
        is_trained: Whether candidates are trained.

    Raises:
        ClusterError: As `ray_cluster`.
    """
    check_client(section.ray_address, is_trained=is_trained)
    if section.ray_address is not None or section.gpus_per_worker:
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
    import ray

    check_client(section.ray_address)
    own = section.ray_address is None
    with no_remains() if own else nullcontext():
        _connect(section, code_path)
        try:
            check_resources(section, _nodes())
            yield
        finally:
            ray.shutdown()


def _nodes() -> list[Mapping[str, float]]:
    """All that each living node of the cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _connect(section: SearchSection, code_path: str) -> None:
    """Joins the cluster, or starts one that listens on this machine alone."""
    import logging

    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    own = section.ray_address is None
    variables = {**_QUIET, "OMP_NUM_THREADS": str(section.threads_per_worker)}
    if code_path:
        variables["PYTHONPATH"] = code_path
    try:
        with own_sigterm(), _loopback() if own else nullcontext():
            ray.init(
                address=section.ray_address or "local",
                num_cpus=round(section.workers * cpus_per_worker(section)) if own else None,
                runtime_env={"env_vars": variables},
                include_dashboard=False if own else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
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
