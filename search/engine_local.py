"""Carries jobs out one after the other in this process."""

from __future__ import annotations

import time
import traceback

import torch

from paredown.search.coordinator import Coordinator, Job, Outcome
from paredown.search.scoring import Evaluator


def carry_out(evaluator: Evaluator, job: Job) -> Outcome:
    """The job's outcome. The trial boundary: whatever a candidate raises becomes its recorded error."""
    started = time.perf_counter()
    try:
        score = evaluator.evaluate(job.candidate, job.rows)
        return Outcome(score=score, error=None, duration_s=time.perf_counter() - started)
    except Exception as error:
        where = traceback.format_exc(limit=-2).strip()
        told = f"{type(error).__name__}: {error}\n{where}"
        return Outcome(score=None, error=told, duration_s=time.perf_counter() - started)


def run_local(coordinator: Coordinator, evaluator: Evaluator, threads: int) -> None:
    """Works until the coordinator has nothing more to do."""
    torch.set_num_threads(threads)
    while not coordinator.is_done:
        job = coordinator.next()
        if job is not None:
            coordinator.finish(job, carry_out(evaluator, job))
