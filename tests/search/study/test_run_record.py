"""What a run folder holds is read from its journal alone."""

import json
from dataclasses import replace

import pytest

from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.journal import Journal, JournalError
from paredown.search.study.pareto import front_of
from paredown.search.study.picking import PickError
from paredown.search.study.run_record import (
    JOURNAL,
    RUNG,
    RunError,
    bundle_places,
    check_is_run,
    read_run,
)
from paredown.search.study.rung import Rung


def test_a_run_is_read_as_it_was_written(make_run, make_evaluations, goals):
    record = read_run(make_run())
    evaluations = make_evaluations(30)
    assert record.goals == goals
    assert [e.key for e in record.evaluations] == [e.key for e in evaluations]
    assert record.front.keys == front_of(evaluations, goals).keys
    assert record.uncompressed.label == "uncompressed"


def seventh_fails(evaluation):
    if evaluation.number != 7:
        return evaluation
    return replace(
        evaluation,
        metrics={},
        failure=Failure(kind=FailureKind.RAISED, sentence="ValueError: made to fail"),
    )


def test_a_unique_beginning_of_a_key_names_a_model(make_run):
    record = read_run(make_run(change=seventh_fails))
    good = next(e for e in record.evaluations if not e.is_failed and e.kind == "search")
    bad = next(e for e in record.evaluations if e.is_failed)
    assert record.with_key(good.key).key == good.key
    length = next(
        n
        for n in range(1, len(good.key) + 1)
        if sum(e.key.startswith(good.key[:n]) for e in record.evaluations) == 1
    )
    assert record.with_key(good.key[:length]).key == good.key
    for key, said in ((bad.key, "fits none"), ("", "fits "), ("xyz", "fits none")):
        with pytest.raises(RunError, match=said):
            record.with_key(key)


def test_a_pick_is_a_member_of_the_front(make_run):
    record = read_run(make_run())
    best = max(record.front.members, key=lambda e: e.metrics["accuracy"])
    assert record.picked("max accuracy").metrics["accuracy"] == best.metrics["accuracy"]
    with pytest.raises(PickError):
        record.picked("max beauty")


def test_the_bounds_of_a_run_are_those_of_its_front_s_rows(make_run, goals):
    bounded = (replace(goals[0], at_least=0.5, relative=True), *goals[1:])
    folder = make_run(goals=bounded)
    base = read_run(folder).uncompressed
    last = Rung(number=1)
    easier = {**base.metrics, "accuracy": base.metrics["accuracy"] - 0.25}
    journal = Journal.open(folder / JOURNAL, bounded, resume=True)
    journal.append(replace(base, number=30, rung=last, metrics=easier), {}, {})
    journal.set_attribute(RUNG, last.to_json())
    journal.close()
    assert read_run(folder).goals[0].at_least == 0.25
    assert read_run(folder).front.goals == read_run(folder).goals


def test_the_front_as_json_holds_what_its_members_are(make_run):
    record = read_run(make_run())
    written = json.loads(record.to_json())
    assert [goal["metric"] for goal in written["goals"]] == [g.metric for g in record.goals]
    assert {m["key"] for m in written["front"]} == record.front.keys
    for member, entry in zip(record.front.members, written["front"], strict=True):
        assert entry["metrics"] == dict(member.metrics)
        assert type(member.candidate).from_json(entry["candidate"]) == member.candidate


def test_a_folder_without_a_journal_is_no_run(tmp_path):
    with pytest.raises(JournalError, match=r"study\.journal.*runs/digits"):
        check_is_run(tmp_path)
    with pytest.raises(JournalError):
        read_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_bundles_that_are_there_have_a_place(tmp_path):
    (tmp_path / "bundles" / "a").mkdir(parents=True)
    (tmp_path / "bundles" / "b").write_text("no folder")
    assert bundle_places(tmp_path, ["a", "b", "c"]) == {"a": "bundles/a/"}
