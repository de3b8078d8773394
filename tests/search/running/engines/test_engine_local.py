"""How processes that evaluate end, in words: by code or signal, deaf to a limit, before they begin."""

import ctypes
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import pytest

from paredown.search.config.schema import SearchSection
from paredown.search.proposing.coordinator import MOST_LOST
from paredown.search.running.engines.engine_local import ProcessesEndedError, local_engine
from paredown.search.study.evaluation import FailureKind

LEAVES, CRASHES, HANGS_DEAF, LEAVES_A_CHILD = 1, 2, 3, 4
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
