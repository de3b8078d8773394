"""One process that evaluates: what it is sent, what it replies, and how its end is put into words."""

import json
import os
import queue
import signal
import sys
import time
from dataclasses import dataclass

import cloudpickle
import pytest

from paredown.search.proposing.jobs import GRACE_S, Job, Outcome
from paredown.search.running.engines.evaluation_process import EvaluationProcess, write_evaluator
from paredown.search.study.evaluation import FailureKind, Score
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice


@dataclass(frozen=True)
class Strange:
    """An evaluator that reports where it runs, or ends there."""

    secret: str

    def prepare_process(self, threads):
        """Nothing to set."""

    def solve(self, candidate, wait):
        """Nothing to solve."""

    def evaluate(self, candidate, rung, begins=""):
        rows = rung.rows
        if rows == 1:
            print(self.secret, "x" * 10_000, "the end", flush=True)
            os._exit(5)
        if rows == 2:
            time.sleep(600)
        if rows == 3:
            raise KeyError(self.secret)
        return Score(metric=float(os.getpid()), loss=candidate.layer("a").weight_bits, images=rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scratch folder with the evaluator; processes cannot import this file, so it goes by value."""
    module = sys.modules[__name__]
    folder = tmp_path_factory.mktemp("processes")
    cloudpickle.register_pickle_by_value(module)
    write_evaluator(Strange("hidden"), folder)
    cloudpickle.unregister_pickle_by_value(module)
    return folder


@pytest.fixture
def process(folder):
    """A process that has read the evaluator, and its replies."""
    replies = queue.Queue()
    process = EvaluationProcess(folder, 1, replies)
    assert replies.get(timeout=120) == (process, {"ready": True})
    process.begin()
    yield process, replies
    process.close()


def job(rows, longest_s=None):
    candidate = Candidate.of(layers={"a": LayerChoice(weight_bits=3)})
    return Job(candidate=candidate, rung=Rung(rows=rows), longest_s=longest_s)


def test_jobs_are_done_one_after_another_in_a_process_of_their_own(process):
    worker, replies = process
    asked = job(50)
    worker.start(asked)
    _, reply = replies.get(timeout=60)
    outcome = Outcome.from_json(reply)
    assert outcome.failure is None
    assert (outcome.score.loss, outcome.score.images) == (3, 50)
    assert outcome.score.metric != os.getpid()
    assert worker.finish() is asked
    worker.start(job(3))
    failed = Outcome.from_json(replies.get(timeout=60)[1])
    assert failed.score is None
    assert failed.failure.kind is FailureKind.RAISED
    assert failed.failure.sentence == "KeyError: 'hidden'"
    # Ctrl-C in a terminal reaches the whole group, and ends no process of a search.
    os.kill(int(outcome.score.metric), signal.SIGINT)
    worker.start(job(60))
    again = Outcome.from_json(replies.get(timeout=60)[1])
    assert again.score == Score(metric=outcome.score.metric, loss=3, images=60)
    # What it was sent is in the file for its words only if the evaluation printed it.
    assert worker.last_words() == ""


def test_a_process_that_ends_says_how_and_its_words_are_cut(process):
    worker, replies = process
    worker.start(job(1))
    assert replies.get(timeout=60) == (worker, None)
    assert worker.ending() == "exit code 5"
    outcome = worker.ended()
    words = outcome.failure.where
    assert outcome.failure.kind is FailureKind.ENDED_PROCESS
    assert outcome.failure.sentence == "the evaluation ended its process (exit code 5)"
    assert words.startswith("hidden xxx")
    assert words.endswith("the end")
    assert "\n...\n" in words
    assert len(words) < 1300
    assert outcome.score is None


def test_a_process_that_is_killed_is_said_to_be_out_of_memory(process):
    worker, replies = process
    worker.start(job(50))
    pid = int(Outcome.from_json(replies.get(timeout=60)[1]).score.metric)
    worker.finish()
    worker.start(job(2))
    os.kill(pid, signal.SIGKILL)
    assert replies.get(timeout=60) == (worker, None)
    assert worker.ending() == "SIGKILL, as when memory runs out"
    # Sent to one that has ended: its listener has said so, and that is all.
    worker.start(job(50, longest_s=-2 * GRACE_S))
    assert worker.ended().failure.kind is FailureKind.TIMED_OUT


def test_a_reply_is_read_back_as_the_outcome_that_was_sent():
    reply = {
        "score": {"metric": 0.5, "loss": 0.25, "images": 3},
        "failure": None,
        "duration_s": 2.0,
        "obstacle": "",
    }
    outcome = Outcome.from_json(json.loads(json.dumps(reply)))
    assert outcome.score == Score(metric=0.5, loss=0.25, images=3)
    assert outcome.duration_s == 2.0
