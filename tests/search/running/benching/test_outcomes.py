"""Outcomes on disk: found again, never mixed with those of other problems, and whole after a kill."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.jobs import Outcome
from paredown.search.running.benching.outcomes import (
    OutcomeFile,
    OutcomeFileError,
    problem_digest,
)
from paredown.search.study.evaluation import Failure, FailureKind, Score
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

RUNG = Rung(rows=100)
FOUR, TWO = (Candidate.of(layers={"a": LayerChoice(weight_bits=bits)}) for bits in (4, 2))
GOOD = Outcome(score=Score(metric=0.9, loss=0.25, images=100), failure=None, duration_s=1.5)
BAD = Outcome(
    score=None,
    failure=Failure(kind=FailureKind.NOT_FINITE, sentence="it is NaN"),
    duration_s=0.5,
)


def test_outcomes_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "outcomes.jsonl"
    file = OutcomeFile(path, "p", RUNG)
    assert not file.known
    file.add(FOUR, GOOD)
    file.add(TWO, BAD)
    file.add(TWO, GOOD)  # what was known first stays
    again = OutcomeFile(path, "p", RUNG)
    assert [known.candidate for known in again.known.values()] == [FOUR, TWO]
    assert again.known[FOUR.key].outcome == GOOD
    assert again.known[TWO.key].outcome == BAD
    assert len(path.read_text().splitlines()) == 2


def test_other_problems_and_other_rows_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    OutcomeFile(path, "p", RUNG).add(FOUR, GOOD)
    for problem, rung in (("q", RUNG), ("p", Rung(rows=200))):
        other = OutcomeFile(path, problem, rung)
        assert not other.known
        other.add(FOUR, BAD)
    mine = OutcomeFile(path, "p", RUNG)
    assert mine.known[FOUR.key].outcome == GOOD
    assert mine.others == 2


def test_a_key_that_the_candidate_has_no_more_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    OutcomeFile(path, "p", RUNG).add(FOUR, GOOD)
    record = json.loads(path.read_text()) | {"key": TWO.key}
    del record["digest"]
    path.write_text(json.dumps(record) + "\n")
    assert OutcomeFile(path, "p", RUNG).others == 1


def test_a_torn_line_is_cut_and_a_damaged_one_named(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    file = OutcomeFile(path, "p", RUNG)
    file.add(FOUR, GOOD)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-20])
    again = OutcomeFile(path, "p", RUNG)
    again.add(TWO, GOOD)
    assert len(OutcomeFile(path, "p", RUNG).known) == 2
    path.write_bytes(path.read_bytes().replace(b'"metric":0.9', b'"metric":0.8', 1))
    with pytest.raises(OutcomeFileError, match="line 1"):
        OutcomeFile(path, "p", RUNG)


def test_a_problem_is_what_scores_depend_on(workbench: Workbench) -> None:
    config = workbench.config
    section = config.search
    searched = section.model_copy(update={"sampler": "tpe", "evaluations": 7})
    other = config.hardware.model_copy(update={"threads": config.hardware.threads + 1})
    same = config.model_copy(update={"search": searched, "hardware": other, "goals": ()})
    mine = problem_digest(workbench)
    assert problem_digest(replace(workbench, config=same)) == mine
    rows = section.model_copy(update={"rung_images": 17})
    fewer = config.model_copy(update={"search": rows})
    assert problem_digest(replace(workbench, config=fewer)) != mine
