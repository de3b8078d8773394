"""A whole search on the digits: its folder, repetition, a killed process, a failing candidate."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from paredown.search import engine_local
from paredown.search import run as running
from paredown.search.config import load_config
from paredown.search.coordinator import Outcome
from paredown.search.evaluation import LOST, UNCOMPRESSED, UNIFORM_8_BIT
from paredown.search.journal import JournalError, read_journal
from paredown.search.mlflow_store import connect
from paredown.search.mlflow_text import PARENT_TAG
from paredown.search.report import BundleCheck
from paredown.search.run import run
from paredown.search.run_record import read_run
from paredown.search.scoring import Evaluator
from paredown.search.searching import UNIFORM_4_BIT

CONFIG = """\
name: toy
task: {name: digits}
space:
  rules:
    - {layers: "*", weight_bits: [4, 8, 32], method: [rtn]}
    - {segments: "*", activation_bits: [8, 32], tie: true}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 9, batch: 4, rung_images: 100000}
"""
TOTAL = 9

SLOW_SEARCH = """\
import sys, time
from paredown.search.report import BundleCheck
from paredown.search.run import run
from paredown.search.scoring import Evaluator

evaluate = Evaluator.evaluate

def slowly(self, candidate, rows=None):
    time.sleep(0.3)
    return evaluate(self, candidate, rows)

Evaluator.evaluate = slowly
run(sys.argv[1], overrides=sys.argv[2:])
"""


class Recorder:
    """Keeps what a watcher is told."""

    def __init__(self):
        self.stages, self.counts, self.results, self.total = [], [], [], 0

    def started(self, total):
        self.total = total

    def stage(self, text):
        self.stages.append(text)

    def told(self, evaluation, front, hypervolume, done):
        self.counts.append(done)

    def finished(self, result):
        self.results.append(result)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "toy.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def finished(config_file, tmp_path_factory):
    """One complete search with its export, and what it told its watcher."""
    recorder = Recorder()
    folder = tmp_path_factory.mktemp("runs")
    return run(config_file, overrides=[f"output.folder={folder}"], watch=recorder), recorder


@pytest.fixture
def unexported(monkeypatch):
    """Searches end before their models are written: that part is seen in `finished`."""
    monkeypatch.setattr(running, "export_front", lambda *_: ())


def search(config_file, folder, *overrides, resume=False):
    overrides = (f"output.folder={folder}", *overrides)
    return run(config_file, overrides=overrides, resume=resume)


def test_a_run_leaves_its_folder_with_every_record(finished):
    result, recorder = finished
    names = {path.name for path in result.folder.iterdir()}
    assert names >= {"config.yaml", "study.journal", "front.json", "report.html", "mlflow.db"}
    assert names >= {"front.html", "progress.html", "decisions.html", "parallel.html", "bundles"}
    assert len(result.evaluations) == recorder.total == TOTAL
    assert recorder.counts == list(range(1, TOTAL + 1))
    assert recorder.results == [result]
    assert not result.interrupted
    assert [e.label for e in result.evaluations][:3] == [
        UNCOMPRESSED,
        UNIFORM_8_BIT,
        UNIFORM_4_BIT,
    ]
    assert [e.number for e in result.evaluations] == list(range(TOTAL))
    assert len({e.key for e in result.evaluations}) == TOTAL


def test_the_front_is_the_non_dominated_part_and_the_journal_tells_the_same(finished):
    result, _ = finished
    values = [[e.metrics["accuracy"], e.metrics["onnx_bytes"]] for e in result.evaluations]
    better = [any(b[0] >= a[0] and b[1] <= a[1] and b != a for b in values) for a in values]
    optimal = {tuple(v) for v, beaten in zip(values, better, strict=True) if not beaten}
    members = result.front.members
    assert {(m.metrics["accuracy"], m.metrics["onnx_bytes"]) for m in members} == optimal
    record = read_run(result.folder)
    assert record.evaluations == result.evaluations
    assert {m.key for m in record.front.members} == {m.key for m in members}
    written = json.loads((result.folder / "front.json").read_text())
    assert [m["key"] for m in written] == [m.key for m in members]


def test_every_point_of_the_front_is_exported_and_verified(finished):
    result, _ = finished
    assert {check.key for check in result.bundles} == {m.key for m in result.front.members}
    by_key = {m.key: m for m in result.front.members}
    for check in result.bundles:
        assert check.mismatches == ()
        size = (result.folder / check.folder / "model.onnx").stat().st_size
        assert size == by_key[check.key].metrics["onnx_bytes"] == check.measured["onnx_bytes"]


def test_a_second_search_in_the_folder_is_refused_before_anything_is_loaded(
    finished, config_file, monkeypatch
):
    result, _ = finished
    before = (result.folder / "config.yaml").read_text()

    def loaded(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(running, "prepare", loaded)
    with pytest.raises(JournalError, match="--resume"):
        search(config_file, result.folder.parent, "search.evaluations=99")
    assert (result.folder / "config.yaml").read_text() == before


@pytest.mark.usefixtures("unexported")
def test_the_same_seed_searches_the_same_and_resuming_a_finished_run_evaluates_nothing(
    finished, config_file, tmp_path, monkeypatch
):
    result, _ = finished
    again = search(config_file, tmp_path)
    assert [e.key for e in again.evaluations] == [e.key for e in result.evaluations]
    for one, other in zip(again.evaluations, result.evaluations, strict=True):
        assert dict(one.metrics) == dict(other.metrics)
    assert [m.key for m in again.front.members] == [m.key for m in result.front.members]

    calls = []
    evaluate = Evaluator.evaluate
    monkeypatch.setattr(
        Evaluator,
        "evaluate",
        lambda self, c, rows=None: calls.append(c) or evaluate(self, c, rows),
    )
    resumed = search(config_file, tmp_path, resume=True)
    assert resumed.evaluations == again.evaluations
    assert [c.key for c in calls] == [again.evaluations[0].key], "bounds need the base alone"


def test_a_run_of_other_scores_is_not_resumed_and_keeps_its_config(finished, config_file):
    result, _ = finished
    before = (result.folder / "config.yaml").read_text()
    with pytest.raises(JournalError, match=r"search\.rung_images"):
        search(config_file, result.folder.parent, "search.rung_images=100", resume=True)
    assert (result.folder / "config.yaml").read_text() == before


def kill_after(process, journal, count):
    """Kill the search once `count` evaluations are written; the evaluations it left."""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read().decode()
            if journal.exists() and journal.read_bytes().count(b'"evaluation"') >= count:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the search wrote no evaluations in 60 s")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    return [entry.evaluation for entry in read_journal(journal).entries]


@pytest.mark.usefixtures("unexported")
def test_a_killed_search_goes_on_where_it_was(config_file, tmp_path):
    place = (f"output.folder={tmp_path}", "search.rung_images=100", "search.promote_fraction=0.5")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SEARCH, str(config_file), *place],
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

    resumed = search(config_file, tmp_path, *place[1:], resume=True)
    assert list(resumed.evaluations[: len(left)]) == left
    tried = [(e.key, e.rung) for e in resumed.evaluations]
    assert len(set(tried)) == len(tried)
    assert sum(e.rung == 0 for e in resumed.evaluations) == TOTAL
    assert any(e.rung == 1 for e in resumed.evaluations)
    assert all(m.rung == 1 for m in resumed.front.members)
    assert not any(e.is_failed for e in resumed.evaluations)

    client = connect(f"sqlite:///{tmp_path / 'toy' / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    parents = [r for r in runs if PARENT_TAG not in r.data.tags]
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"


@pytest.mark.usefixtures("unexported")
def test_a_candidate_that_raises_is_a_recorded_failure_and_the_search_goes_on(
    finished, config_file, tmp_path, monkeypatch
):
    result, _ = finished
    victim = result.evaluations[4].key
    evaluate = Evaluator.evaluate

    def failing(self, candidate, rows=None):
        if candidate.key == victim:
            raise ZeroDivisionError("made to fail")
        return evaluate(self, candidate, rows)

    monkeypatch.setattr(Evaluator, "evaluate", failing)
    broken = search(config_file, tmp_path)
    failed = [e for e in broken.evaluations if e.is_failed]
    assert [e.key for e in failed] == [victim]
    assert "ZeroDivisionError: made to fail" in failed[0].error
    assert dict(failed[0].metrics) == {}
    assert len(broken.evaluations) == TOTAL
    assert victim not in {m.key for m in broken.front.members}
    stored = [entry.evaluation for entry in read_journal(broken.folder / "study.journal").entries]
    assert stored == list(broken.evaluations)


@pytest.mark.usefixtures("unexported")
def test_what_a_lost_worker_left_is_asked_again_and_a_failed_candidate_is_not(
    finished, config_file, tmp_path, monkeypatch
):
    result, _ = finished
    lost, failing = (e.key for e in result.evaluations[1:5:3])
    carry_out = engine_local.carry_out

    def dying(evaluator, job):
        reason = {lost: f"{LOST}: out of memory", failing: "ZeroDivisionError: x"}
        if job.candidate.key in reason:
            return Outcome(score=None, error=reason[job.candidate.key], duration_s=0.0)
        return carry_out(evaluator, job)

    monkeypatch.setattr(engine_local, "carry_out", dying)
    broken = search(config_file, tmp_path)
    assert {e.key for e in broken.evaluations if e.is_failed} == {lost, failing}
    monkeypatch.setattr(engine_local, "carry_out", carry_out)
    resumed = search(config_file, tmp_path, resume=True)
    again = resumed.evaluations[len(broken.evaluations) :]
    assert [(e.key, e.label, e.is_failed) for e in again] == [(lost, UNIFORM_8_BIT, False)]
    assert search(config_file, tmp_path, resume=True).evaluations == resumed.evaluations


@pytest.mark.usefixtures("unexported")
def test_a_hard_bound_keeps_dear_candidates_from_being_evaluated(config_file, tmp_path):
    bounded = search(
        config_file,
        tmp_path,
        "goals=[{metric: accuracy}, {metric: onnx_bytes, at_most: 0.3, relative: true}]",
        "search.sampler=ladder",
    )
    whole = bounded.evaluations[0].metrics["onnx_bytes"]
    searched = [e for e in bounded.evaluations if e.kind == "search"]
    assert searched
    assert all(e.metrics["onnx_bytes"] <= 0.3 * whole for e in searched)
    assert all(m.metrics["onnx_bytes"] <= 0.3 * whole for m in bounded.front.members)


def test_a_config_and_its_path_are_the_same_to_run(config_file, tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    asked = []

    def reached(*arguments):
        asked.append(arguments)
        raise Reached

    monkeypatch.setattr(running, "prepare", reached)
    overrides = [f"output.folder={tmp_path}"]
    with pytest.raises(Reached):
        run(load_config(config_file, overrides))
    with pytest.raises(Reached):
        run(config_file, overrides=overrides)
    assert asked[0] == asked[1]


def test_a_search_that_fails_before_its_study_opens_leaves_the_folder_free(
    config_file, tmp_path, monkeypatch
):
    def broken(*_):
        raise ValueError("no data")

    monkeypatch.setattr(running, "prepare", broken)
    with pytest.raises(ValueError, match="no data"):
        run(config_file, overrides=[f"output.folder={tmp_path}"])
    assert list((tmp_path / "toy").iterdir()) == []


def test_latencies_left_by_a_search_that_never_began_are_not_trusted(
    config_file, tmp_path, monkeypatch
):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "latency.json").write_text('{"kind": "calibr')

    def seen(config, latency_file):
        assert not latency_file.exists()
        raise ValueError("far enough")

    monkeypatch.setattr(running, "prepare", seen)
    with pytest.raises(ValueError, match="far enough"):
        run(config_file, overrides=[f"output.folder={tmp_path}"])


def parent_status(folder):
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [r for r in runs if PARENT_TAG not in r.data.tags]
    return parent.info.status


def written_front(folder):
    return {member["key"] for member in json.loads((folder / "front.json").read_text())}


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to be resumed, without its pages."""
    result, _ = finished
    folder = shutil.copytree(result.folder, tmp_path / "toy")
    for page in ("report.html", "front.json"):
        (folder / page).unlink()
    return folder


def interrupt(*_):
    raise KeyboardInterrupt


def check_and_interrupt(workbench, ledger, folder):
    key = ledger.front.members[0].key
    yield BundleCheck(key=key, folder=f"bundles/{key}", predicted={}, measured={})
    raise KeyboardInterrupt


def assert_is_told(found, checks):
    assert found.interrupted
    assert "stopped early: interrupted" in (found.folder / "report.html").read_text()
    assert written_front(found.folder) == read_run(found.folder).front.keys == found.front.keys
    assert len(found.front.members) > 0
    assert len(found.bundles) == checks
    assert parent_status(found.folder) == "KILLED"


def test_an_interruption_after_the_first_evaluation_leaves_front_and_report(
    config_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(running, "DamageTerms", interrupt)
    found = search(config_file, tmp_path)
    assert_is_told(found, checks=0)
    assert [e.label for e in found.evaluations] == [UNCOMPRESSED]


@pytest.mark.parametrize(
    ("stage", "ends", "checks"),
    [("explore", interrupt, 0), ("export_front", check_and_interrupt, 1)],
)
def test_an_interruption_at_a_later_stage_leaves_front_and_report(
    config_file, copied, monkeypatch, stage, ends, checks
):
    monkeypatch.setattr(running, stage, ends)
    assert_is_told(search(config_file, copied.parent, resume=True), checks)


@pytest.mark.usefixtures("unexported")
def test_an_interrupted_resumption_shows_the_front_the_journal_has(
    config_file, tmp_path, monkeypatch
):
    place = "search.rung_images=100"
    whole = search(config_file, tmp_path, place)
    assert whole.front.rung == 1
    monkeypatch.setattr(running, "explore", interrupt)
    again = search(config_file, tmp_path, place, resume=True)
    assert again.interrupted
    assert again.front.keys == whole.front.keys
    assert written_front(again.folder) == whole.front.keys == read_run(again.folder).front.keys


def test_an_export_that_fails_altogether_finds_the_report_written(
    config_file, copied, monkeypatch
):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr(running, "export_front", broken)
    with pytest.raises(MemoryError):
        search(config_file, copied.parent, resume=True)
    assert (copied / "report.html").exists()
    assert written_front(copied) == read_run(copied).front.keys
    assert parent_status(copied) == "FAILED"
