"""Runs as `paredown runs` lists them: how each stands, and what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from paredown.search.study.evaluation import Evaluation, Failure, FailureKind, Goal
from paredown.search.study.journal import Journal, hold
from paredown.search.study.listing import known_runs
from paredown.search.study.run_record import END, JOURNAL
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)


def write_run(folder: Path, end: str | None) -> None:
    journal = Journal.open(folder / JOURNAL, GOALS, resume=False)
    for number, (metrics, error) in enumerate(
        (({"accuracy": 0.9, "onnx_bytes": 10.0}, None), ({}, "ValueError: no"))
    ):
        evaluation = Evaluation(
            number=number,
            key=f"{number:012x}",
            candidate=Candidate(dropped=(str(number),)),
            kind="search",
            label="",
            rung=Rung(),
            metrics=metrics,
            failure=error and Failure.of_text(FailureKind.RAISED, error),
            duration_s=1.0,
        )
        journal.append(evaluation, {}, {})
    if end is not None:
        journal.set_attribute(END, end)
    journal.close()


@pytest.mark.parametrize(
    ("end", "condition"),
    [
        ("FINISHED", "finished"),
        ("KILLED", "interrupted"),
        ("FAILED", "failed"),
        ("", "killed"),
        (None, "ended"),
    ],
)
def test_how_a_run_ended_is_what_its_journal_notes(
    tmp_path: Path, end: str | None, condition: str
) -> None:
    write_run(tmp_path / "a", end)
    (tmp_path / "a" / "extra").write_bytes(b"x" * 1000)
    (run,) = known_runs(tmp_path)
    assert run.condition == condition
    assert (run.evaluations, run.failures, run.front_size) == (2, 1, 1)
    files = list((tmp_path / "a").iterdir())
    assert run.size_bytes == sum(path.stat().st_size for path in files) >= 1000


def test_a_run_whose_journal_is_held_is_searching(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "FINISHED")
    lock = hold(tmp_path / "a" / JOURNAL)
    try:
        (run,) = known_runs(tmp_path)
    finally:
        lock.release()
    assert run.condition == "searching"


def test_runs_are_found_at_any_depth_and_a_damaged_one_says_why(tmp_path: Path) -> None:
    write_run(tmp_path / "x" / "y" / "a", "FINISHED")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / JOURNAL).write_text("")
    found = {run.folder.name: run for run in known_runs(tmp_path)}
    assert set(found) == {"a", "b"}
    assert found["b"].condition == "damaged"
    assert str(tmp_path / "b" / JOURNAL) in found["b"].problem
    assert not (tmp_path / "b" / f"{JOURNAL}.lock").exists()  # looking writes nothing
