"""Journals of version 1 are read as what is written now; those of a later version are refused."""

import json

import pytest

from paredown.search.study.evaluation import Evaluation, Failure, FailureKind
from paredown.search.study.journal import Journal, JournalError, read_journal
from paredown.search.study.journal_format import FORMAT, as_now
from paredown.search.study.rung import Rung


def of_version_1(evaluation, number, error):
    plain = json.loads(json.dumps(evaluation.to_json()))
    del plain["failure"], plain["trained"]
    return plain | {"rung": number, "error": error}


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (None, None),
        ("ValueError: no\n  at x", Failure.of_text(FailureKind.RAISED, "ValueError: no\n  at x")),
        ("WorkerDied: gone", Failure(kind=FailureKind.WORKER_LOST, sentence="gone")),
        ("EvaluationTimeout: 4 s", Failure(kind=FailureKind.TIMED_OUT, sentence="4 s")),
        ("ProcessEnded: 9\nbye", Failure.of_text(FailureKind.ENDED_PROCESS, "9\nbye")),
        ("NotFiniteError: loss", Failure(kind=FailureKind.NOT_FINITE, sentence="loss")),
        ("MeasureError: int8", Failure(kind=FailureKind.NO_PRICE, sentence="int8")),
    ],
)
def test_a_failure_of_version_1_has_its_kind(make_evaluations, error, failure):
    (evaluation,) = make_evaluations(1)
    now = Evaluation.from_json(as_now(of_version_1(evaluation, 0, error), {}))
    assert now.failure == failure
    assert now.is_lost == (error == "WorkerDied: gone")


@pytest.mark.parametrize(
    ("number", "problem", "rung"),
    [
        (0, {"search.rung_images": "1500"}, Rung(rows=1500)),
        (1, {"search.rung_images": "1500"}, Rung(number=1)),
        (0, {}, Rung()),
    ],
)
def test_a_rung_of_version_1_has_the_rows_that_its_study_names(
    make_evaluations, number, problem, rung
):
    (evaluation,) = make_evaluations(1)
    now = as_now(of_version_1(evaluation, number, None), problem)
    assert Evaluation.from_json(now).rung == rung


def test_an_evaluation_of_this_version_stays_as_it_is(make_evaluations):
    for evaluation in make_evaluations(20):
        assert Evaluation.from_json(as_now(evaluation.to_json(), {})) == evaluation


def test_a_journal_of_a_later_version_is_refused_with_its_remedy(tmp_path, goals):
    path = tmp_path / "study.journal"
    Journal.open(path, goals, resume=False).close()
    text = path.read_text()
    assert f'{{"format":{FORMAT}}}' in text
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        line.pop("digest", None)
        if "format" in line.get("user_attr", {}):
            line["user_attr"]["format"] = FORMAT + 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(JournalError, match=rf"format {FORMAT + 1}.*upgrade paredown"):
        read_journal(path)
    with pytest.raises(JournalError, match="upgrade"):
        Journal.open(path, goals, resume=True)
