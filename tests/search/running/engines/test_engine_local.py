"""How processes that evaluate end, in words: by code or signal, deaf to a limit, before they begin."""

import ctypes
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import pytest

from paredown.search.calibrating.drawing import uniform
from paredown.search.config.schema import SearchSection
from paredown.search.proposing.coordinator import MOST_LOST
from paredown.search.proposing.jobs import Job
from paredown.search.running.engines.engine_local import ProcessesEndedError, local_engine
from paredown.search.study.evaluation import FailureKind, Score
from paredown.search.study.rung import Rung

LEAVES, CRASHES, HANGS_DEAF, LEAVES_A_CHILD = 1, 2, 3, 4
HELPED = 50
LIMIT_S = 4.0


@dataclass(frozen=True)
class Deadly:
    """A loss that does what the number of rows names, and leaves its process's number."""

    inner: object
    folder: str

    def __call__(self, outputs, targets):
        (Path(self.folder) / str(os.getpid())).touch()
        rows = len(targets)
        if rows == LEAVES:
            print("out of here", flush=True)
            os._exit(7)
        if rows == CRASHES:
            ctypes.string_at(0)
        if rows == HANGS_DEAF:
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock all the time
        if rows == LEAVES_A_CHILD:
            if os.fork() == 0:
                time.sleep(600)
            os._exit(9)
        return self.inner(outputs, targets)


@pytest.fixture(scope="module", autouse=True)
def _sent_by_value():
    """Processes cannot import this file, so its classes travel with the evaluator."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def deadly(workbench, tmp_path):
    return replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss, str(tmp_path)))


def run(coordinator, evaluator):
    """Works with one process."""
    with local_engine(evaluator, SearchSection(engine="local", workers=1)) as engine:
        engine.run(coordinator)


def test_a_process_that_ends_is_one_failure_and_is_replaced_until_too_many_do(
    coordinate, deadly, job, tmp_path
):
    fatal = (CRASHES, LEAVES_A_CHILD, LEAVES)
    jobs = [job(8, LEAVES), job(7)]
    jobs += [job(bits, rows) for bits, rows in zip((6, 5, 4), fatal, strict=True)]
    coordinator, recorded = coordinate([*jobs, job(3)])
    with pytest.raises(ProcessesEndedError, match=f"got {MOST_LOST} in a row"):
        run(coordinator, deadly)
    leaves, good, crashes, child, _ = (outcome.failure for _, outcome in recorded)
    assert leaves.text == "the evaluation ended its process (exit code 7)\nout of here"
    assert good is None
    assert "(SIGSEGV)" in crashes.sentence
    assert crashes.kind is FailureKind.ENDED_PROCESS
    assert "in __call__" in crashes.where, "where it crashed is said"
    assert "(exit code 9)" in child.sentence
    assert len(list(tmp_path.iterdir())) == 4


def test_a_metric_that_never_lets_python_run_is_ended_all_the_same(coordinate, deadly, job):
    coordinator, recorded = coordinate([job(8, HANGS_DEAF)], lambda: LIMIT_S)
    run(coordinator, deadly)
    ((_, deaf),) = recorded
    assert deaf.failure.kind is FailureKind.TIMED_OUT
    assert deaf.failure.sentence.startswith("an evaluation must take at most 4 s")
    assert "in __call__" in deaf.failure.where


@dataclass(frozen=True)
class Unloadable:
    """An evaluator that no process can read."""

    def __reduce__(self):
        return sys.exit, ("no such library",)


def test_a_process_that_cannot_begin_ends_the_search_with_its_words(coordinate, job):
    coordinator, _ = coordinate([job(8)])
    with pytest.raises(ProcessesEndedError, match=r"must begin, got exit code 1\nno such library"):
        run(coordinator, Unloadable())


@dataclass(frozen=True)
class Helped:
    """An evaluator whose first candidate ends once another process has solved layers of it."""

    folder: str

    def prepare_process(self, threads):
        """Nothing to set."""

    def solve(self, candidate, wait):
        if not wait:
            (Path(self.folder) / f"{candidate.key}-{os.getpid()}").touch()

    def evaluate(self, candidate, rung, begins=""):
        deadline = time.monotonic() + 180
        while rung.rows == HELPED and not any(Path(self.folder).glob(f"{candidate.key}-*")):
            if time.monotonic() > deadline:
                raise TimeoutError("nobody helps")
            time.sleep(0.05)
        return Score(metric=float(os.getpid()), loss=1.0, images=1)


def test_a_process_without_a_job_helps_another_with_its_layers(workbench, coordinate, tmp_path):
    slow, quick = (
        Job(candidate=uniform(workbench.space, "", bits), rung=Rung(rows=rows))
        for bits, rows in ((8, HELPED), (4, HELPED + 1))
    )
    coordinator, recorded = coordinate([slow, quick])
    with local_engine(Helped(str(tmp_path)), SearchSection(engine="local", workers=2)) as engine:
        engine.run(coordinator)
    scores = {job.name: outcome.score for job, outcome in recorded}
    (helper,) = tmp_path.glob(f"{slow.candidate.key}-*")
    assert helper.name.split("-")[1] == f"{scores[quick.name].metric:.0f}"
    assert scores[slow.name].metric != scores[quick.name].metric
