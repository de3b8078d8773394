"""A search gone on with: after it ended, after it was killed, after workers were lost."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from paredown.search.evaluating.scoring import Evaluator
from paredown.search.proposing.coordinator import Outcome
from paredown.search.running import whole_search as running
from paredown.search.running.engines import trial
from paredown.search.running.whole_search import run
from paredown.search.space import found_ranks
from paredown.search.study.evaluation import UNIFORM_8_BIT, Failure, FailureKind
from paredown.search.study.journal import JournalError, read_journal
from paredown.search.study.run_record import read_run
from paredown.spaces.system.sealed import read_sealed

TOTAL = 9

STUCK_SEARCH = """\
import itertools, sys, time
from paredown.search.proposing.coordinator import Coordinator
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.running.whole_search import run
from paredown.search.study.run_record import read_run

finish, calls = Coordinator.finish, itertools.count()

def stuck_in_the_end(self, job, outcome):
    if next(calls) == 6:
        time.sleep(600)
    finish(self, job, outcome)

Coordinator.finish = stuck_in_the_end
run(sys.argv[1], overrides=sys.argv[2:])
"""
TERMINATED_SEARCH = """\
import itertools, os, signal
from paredown.search.cli.commands import main
from paredown.search.proposing.coordinator import Coordinator

finish, calls = Coordinator.finish, itertools.count(1)

def terminated_after_five(self, job, outcome):
    finish(self, job, outcome)
    if next(calls) == 5:
        os.kill(os.getpid(), signal.SIGTERM)

Coordinator.finish = terminated_after_five
main()
"""


@pytest.mark.usefixtures("unwritten")
def test_the_same_seed_searches_the_same_and_resuming_a_finished_run_evaluates_nothing(
    finished, search, tmp_path, monkeypatch
):
    result, _ = finished
    again = search(tmp_path)
    assert [e.key for e in again.evaluations] == [e.key for e in result.evaluations]
    for one, other in zip(again.evaluations, result.evaluations, strict=True):
        assert dict(one.metrics) == dict(other.metrics)
    assert [m.key for m in again.front.members] == [m.key for m in result.front.members]

    calls = []
    evaluate = Evaluator.evaluate
    monkeypatch.setattr(
        Evaluator,
        "evaluate",
        lambda self, c, rung: calls.append(c) or evaluate(self, c, rung),
    )
    resumed = search(tmp_path, resume=True)
    assert resumed.evaluations == again.evaluations
    assert [c.key for c in calls] == [again.evaluations[0].key], "bounds need the base alone"


def test_a_run_of_other_scores_is_not_resumed_and_keeps_its_config(finished, search):
    result, _ = finished
    before = (result.folder / "config.yaml").read_text()
    with pytest.raises(JournalError, match=r"search\.rung_images"):
        search(result.folder.parent, "search.rung_images=100", resume=True)
    assert (result.folder / "config.yaml").read_text() == before


def kill_after(process, journal, count):
    """Kill the search once `count` evaluations are written; the evaluations it left."""
    deadline = time.monotonic() + 180
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read().decode()
            if journal.exists() and journal.read_bytes().count(b'"evaluation"') >= count:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the search wrote no evaluations in 180 s")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    return [entry.evaluation for entry in read_journal(journal).entries]


@pytest.mark.usefixtures("unwritten")
def test_a_killed_search_goes_on_where_it_was(config_file, search, tmp_path, parent_status):
    place = (f"output.folder={tmp_path}", "search.rung_images=100", "search.promote_fraction=0.5")
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK_SEARCH, str(config_file), *place],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    journal = tmp_path / "toy" / "study.journal"
    left = kill_after(process, journal, 4)
    assert process.returncode == -signal.SIGKILL
    assert 4 <= len(left) < TOTAL
    # What a kill in the middle of a write leaves behind.
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id"')

    resumed = search(tmp_path, *place[1:], resume=True)
    assert list(resumed.evaluations[: len(left)]) == left
    tried = [(e.key, e.rung) for e in resumed.evaluations]
    assert len(set(tried)) == len(tried)
    assert sum(e.rung.number == 0 for e in resumed.evaluations) == TOTAL
    assert any(e.rung.number == 1 for e in resumed.evaluations)
    assert all(m.rung.number == 1 for m in resumed.front.members)
    assert not any(e.is_failed for e in resumed.evaluations)

    assert parent_status(tmp_path / "toy") == "FINISHED"


@pytest.mark.usefixtures("unwritten")
def test_a_search_ended_by_sigterm_leaves_its_report_and_goes_on_where_it_was(
    config_file, search, finished, tmp_path, parent_status
):
    place = ("--set", f"output.folder={tmp_path}")
    ended = subprocess.run(
        [sys.executable, "-c", TERMINATED_SEARCH, "search", str(config_file), *place],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 143, ended.stderr
    assert f"paredown search {config_file} --set output.folder={tmp_path} --resume" in ended.stdout
    folder = tmp_path / "toy"
    assert "stopped early: interrupted" in (folder / "report.html").read_text()
    left = read_run(folder)
    assert {m["key"] for m in json.loads((folder / "front.json").read_text())} == left.front.keys
    assert 6 <= len(left.evaluations) < TOTAL
    assert parent_status(folder) == "KILLED"
    resumed = search(tmp_path, resume=True)
    result, _ = finished
    assert [e.key for e in resumed.evaluations] == [e.key for e in result.evaluations]
    assert resumed.front.keys == result.front.keys


@pytest.mark.usefixtures("unwritten")
def test_what_a_lost_worker_left_is_asked_again_and_a_failed_candidate_is_not(
    finished, search, tmp_path, monkeypatch
):
    result, _ = finished
    lost, failing = (e.key for e in result.evaluations[1:5:3])
    carry_out = trial.carry_out

    def dying(evaluator, job):
        kinds = {lost: FailureKind.WORKER_LOST, failing: FailureKind.RAISED}
        if job.candidate.key in kinds:
            failure = Failure(kind=kinds[job.candidate.key], sentence="no memory")
            return Outcome(score=None, failure=failure, duration_s=0.0)
        return carry_out(evaluator, job)

    monkeypatch.setattr(trial, "carry_out", dying)
    broken = search(tmp_path)
    assert {e.key for e in broken.evaluations if e.is_failed} == {lost, failing}
    monkeypatch.setattr(trial, "carry_out", carry_out)
    resumed = search(tmp_path, resume=True)
    again = resumed.evaluations[len(broken.evaluations) :]
    assert [(e.key, e.label, e.is_failed) for e in again] == [(lost, UNIFORM_8_BIT, False)]
    assert search(tmp_path, resume=True).evaluations == resumed.evaluations


@pytest.mark.usefixtures("unwritten")
def test_a_resumed_search_keeps_the_ranks_it_began_with(search, tmp_path, monkeypatch):
    rules = (
        "space.rules=[{layers: '*', weight_bits: [4, 32]}, {layers: 'block*', rank_fraction: [1], "
        "rank_error: [0.02, 0.05, 0.2], decomposition: [tucker, spatial]}]"
    )
    begun = search(tmp_path, rules)
    low = [c for e in begun.evaluations for _, c in e.candidate.layers if c.rank.share < 1]
    assert any(choice.rank.written_share is not None for choice in low)
    file = begun.folder / "ranks.json"
    before = file.read_text()
    kept = read_sealed(file)["ranks"]
    assert {entry["error"] for entry in kept} == {0.02, 0.05, 0.2}

    def never(*_):
        raise AssertionError("the ranks are known")

    # Whatever would be found now, by other rounding or other code.
    monkeypatch.setattr(found_ranks, "thinnest_ranks", never)
    resumed = search(tmp_path, rules, "search.evaluations=14", resume=True)
    assert resumed.evaluations[:TOTAL] == begun.evaluations
    assert len(resumed.evaluations) == 14
    entries = read_journal(begun.folder / "study.journal").entries
    assert entries[TOTAL - 1].distributions == entries[-1].distributions
    assert file.read_text() == before


def test_what_a_killed_search_had_begun_to_write_is_removed(config_file, tmp_path, monkeypatch):
    staged = tmp_path / "toy" / "bundles" / ".0123456789ab-x1y2z3"
    staged.mkdir(parents=True)
    (staged / "model.onnx").touch()
    (tmp_path / "toy" / ".latency.json.0123.part").touch()
    (tmp_path / "toy" / "bundles" / "my-notes").mkdir()

    def seen(*_):
        assert [path.name for path in (tmp_path / "toy").rglob(".*")] == []
        assert [path.name for path in (tmp_path / "toy" / "bundles").iterdir()] == ["my-notes"]
        raise ValueError("far enough")

    monkeypatch.setattr(running, "survey", seen)
    with pytest.raises(ValueError, match="far enough"):
        run(config_file, overrides=[f"output.folder={tmp_path}"])


@pytest.mark.parametrize("resume", [False, True])
def test_a_search_in_a_folder_where_another_begins_touches_nothing(
    config_file, tmp_path, monkeypatch, resume
):
    place = [f"output.folder={tmp_path}"]
    latency = tmp_path / "toy" / "latency.json"

    def second_begins(*_):
        latency.write_text("{}")
        with pytest.raises(JournalError, match="in use"):
            run(config_file, overrides=place, resume=resume)
        assert latency.read_text() == "{}"
        raise ValueError("far enough")

    monkeypatch.setattr(running, "survey", second_begins)
    for _ in range(2):  # what failed holds nothing
        with pytest.raises(ValueError, match="far enough"):
            run(config_file, overrides=place)


def test_latencies_and_ranks_left_by_a_search_that_never_began_are_not_trusted(
    config_file, tmp_path, monkeypatch
):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "latency.json").write_text('{"kind": "calibr')
    (tmp_path / "toy" / "ranks.json").write_text("[")

    def seen(config, ranks_file):
        assert not ranks_file.with_name("latency.json").exists()
        assert not ranks_file.exists()
        raise ValueError("far enough")

    monkeypatch.setattr(running, "survey", seen)
    with pytest.raises(ValueError, match="far enough"):
        run(config_file, overrides=[f"output.folder={tmp_path}"])
