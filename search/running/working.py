"""An engine at work on the jobs of a coordinator, and what ends that early."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from paredown.compressors.training.kept import KeepingError
from paredown.search.config.schema_task import CustomTask
from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.coordinator import Coordinator, Engine
from paredown.search.running.engines.engine_local import local_engine
from paredown.search.running.engines.engine_ray import RayEngine, ray_cluster

INTERRUPTED = "interrupted"


class Progress(Protocol):
    """Is notified what the search does now, and how many evaluations it asks for."""

    def started(self, total: int) -> None:
        """Scoring begins, for `total` evaluations including those already done."""

    def stage(self, text: str) -> None:
        """The search enters the stage described by `text`."""

    def notice(self, text: str) -> None:
        """Reports something that the user should know."""


@contextmanager
def open_engine(workbench: Workbench) -> Iterator[Engine]:
    """What carries the jobs of a search out, on either rung; a Ray cluster is up as long as it is open.

    Raises:
        ClusterError: The cluster cannot be had, or has not what a worker asks for.
    """
    config, evaluator = workbench.config, workbench.evaluator
    section = config.search
    if section.engine == "local":
        with local_engine(evaluator, section) as engine:
            yield engine
        return
    code = str(config.task.code_folder) if isinstance(config.task, CustomTask) else ""
    with ray_cluster(section, code):
        yield RayEngine(evaluator, section)


def work(engine: Engine, coordinator: Coordinator) -> None:
    """The engine carries out all that the coordinator has to do; Ctrl-C asks no more.

    Raises:
        KeepingError: What training keeps finds no room.
    """
    with _stop_on_interrupt(coordinator):
        engine.run(coordinator)
    if coordinator.obstacle:
        raise KeepingError(coordinator.obstacle)


@contextmanager
def _stop_on_interrupt(coordinator: Coordinator) -> Iterator[None]:
    """Ctrl-C asks no more and lets the running evaluations finish; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def _stop(*_: object) -> None:
        # Between any two bytecodes, even inside `tell`: what `_stop` records is acted on later.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        coordinator.stop(INTERRUPTED)

    before = signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
