"""Real processes that evaluate: same scores, and hangs and ends that cost one candidate each."""

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
from paredown.search.proposing.coordinator import Coordinator
from paredown.search.proposing.jobs import GRACE_S, Job
from paredown.search.running.engine_local import MOST_ENDED, ProcessesEndedError, local_engine
from paredown.search.study.evaluation import Evaluation, FailureKind
from paredown.search.study.rung import Rung

ROWS = {"exits": 1, "hangs": 2, "leaves": 3, "crashes": 4, "hangs deaf": 5, "leaves a child": 6}
LIMIT_S = 4.0


@dataclass(frozen=True)
class Deadly:
    """A loss that does what `ROWS` names on batches of so many rows, and leaves its process's number."""

    inner: object
    folder: str

    def __call__(self, outputs, targets):
        (Path(self.folder) / str(os.getpid())).touch()
        rows = len(targets)
        if rows == ROWS["exits"]:
            print("goodbye, says the metric")
            sys.exit(3)
        if rows == ROWS["hangs"]:
            time.sleep(600)
        if rows == ROWS["leaves"]:
            print("out of here", flush=True)
            os._exit(7)
        if rows == ROWS["crashes"]:
            ctypes.string_at(0)
        if rows == ROWS["hangs deaf"]:
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock all the time
        if rows == ROWS["leaves a child"]:
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
def carry_out(workbench, tmp_path):
    """(jobs, what is told) carries them out; processes leave their numbers in `tmp_path`."""

    def run(jobs, found, workers=1, evaluator=None, limit_s=120.0):
        def tell(job, outcome):
            score = outcome.score
            metrics = {} if score is None else {"accuracy": score.metric, "loss": score.loss}
            made = Evaluation(
                number=len(found),
                key=job.candidate.key,
                candidate=job.candidate,
                metrics=metrics,
                failure=outcome.failure,
                duration_s=outcome.duration_s,
            )
            found.append(made)
            return made

        deadly = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss, str(tmp_path)))
        coordinator = Coordinator(
            proposer=None,
            first=list(jobs),
            evaluations=len(jobs),
            batch=1,
            rung=Rung(),
            tell=tell,
            longest_s=lambda: limit_s,
        )
        section = SearchSection(engine="local", workers=workers)
        with local_engine(evaluator or deadly, section) as engine:
            engine.run(coordinator)

    return run


@pytest.fixture
def job(workbench):
    """(bits, rows) -> a job."""
    return lambda bits, rows=96: Job(
        candidate=uniform(workbench.space, "", bits), rung=Rung(rows=rows)
    )


def processes(folder):
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_processes_score_what_this_one_scores_in_asking_order(carry_out, job, workbench, tmp_path):
    jobs, found = [job(bits) for bits in (8, 6, 5, 4, 3)], []
    carry_out(jobs, found, workers=2)
    for each, told in zip(jobs, found, strict=True):
        here = workbench.evaluator.evaluate(each.candidate, each.rung)
        assert told.key == each.candidate.key
        assert told.metrics == {"accuracy": here.metric, "loss": here.loss}
    assert 1 <= len(processes(tmp_path)) <= 2, "they live as long as the search"
    assert not any(is_alive(pid) for pid in processes(tmp_path))


@dataclass(frozen=True)
class Meeting:
    """A loss that waits until a second process computes it as well."""

    inner: object
    folder: str

    def __call__(self, outputs, targets):
        folder = Path(self.folder)
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 120
        while len(list(folder.iterdir())) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("only one process works")
            time.sleep(0.02)
        return self.inner(outputs, targets)


def test_workers_work_at_the_same_time(carry_out, job, workbench, tmp_path):
    meeting = replace(workbench.evaluator, loss=Meeting(workbench.evaluator.loss, str(tmp_path)))
    found = []
    carry_out([job(bits) for bits in (8, 4)], found, workers=2, evaluator=meeting)
    assert [each.failure for each in found] == [None, None]
    assert len(processes(tmp_path)) == 2


def test_what_a_metric_raises_or_hangs_in_costs_no_process(carry_out, job, tmp_path):
    found = []
    carry_out([job(8, ROWS["exits"]), job(6, ROWS["hangs"]), job(4)], found, limit_s=LIMIT_S)
    exits, hangs, good = found
    assert (exits.failure.kind, exits.failure.sentence) == (FailureKind.RAISED, "SystemExit: 3")
    assert hangs.failure.kind is FailureKind.TIMED_OUT
    assert hangs.failure.sentence.startswith("an evaluation must take at most 4 s")
    assert "time.sleep(600)" in hangs.failure.where
    assert LIMIT_S <= hangs.duration_s < LIMIT_S + GRACE_S
    assert good.failure is None
    assert len(processes(tmp_path)) == 1


def test_a_process_that_ends_is_one_failure_and_is_replaced_until_too_many_do(
    carry_out, job, tmp_path
):
    found = []
    fatal = ("crashes", "leaves a child", "leaves")
    jobs = [job(8, ROWS["leaves"]), job(7)]
    jobs += [job(bits, ROWS[name]) for bits, name in zip((6, 5, 4), fatal, strict=True)]
    with pytest.raises(ProcessesEndedError, match=rf"got {MOST_ENDED} in a row (.*\n)*.*--resume"):
        carry_out([*jobs, job(3)], found)
    leaves, good, crashes, child, _ = found
    assert leaves.failure.text == "the evaluation ended its process (exit code 7)\nout of here"
    assert good.failure is None
    assert "(SIGSEGV)" in crashes.failure.sentence
    assert crashes.failure.kind is FailureKind.ENDED_PROCESS
    assert "in __call__" in crashes.failure.where, "where it crashed is said"
    assert "(exit code 9)" in child.failure.sentence
    assert len(processes(tmp_path)) == 4


def test_a_metric_that_never_lets_python_run_is_ended_all_the_same(carry_out, job):
    found = []
    carry_out([job(8, ROWS["hangs deaf"])], found, limit_s=LIMIT_S)
    (deaf,) = found
    assert deaf.failure.kind is FailureKind.TIMED_OUT
    assert deaf.failure.sentence.startswith("an evaluation must take at most 4 s")
    assert "in __call__" in deaf.failure.where


@dataclass(frozen=True)
class Unloadable:
    """An evaluator that no process can read."""

    def __reduce__(self):
        return sys.exit, ("no such library",)


def test_a_process_that_cannot_begin_ends_the_search_with_its_words(carry_out, job):
    with pytest.raises(ProcessesEndedError, match=r"must begin, got exit code 1\nno such library"):
        carry_out([job(8)], [], evaluator=Unloadable())
