"""The journal: exact, resumable, and whole after any kill."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from paredown.search.study.evaluation import Failure, FailureKind, Goal
from paredown.search.study.journal import Journal, JournalError, _storage, read_journal
from paredown.search.study.record_file import cut_torn_tail

DISTRIBUTIONS = {
    "bits:conv1": CategoricalDistribution([2, 3, 4, 8, 32]),
    "width:layer2": IntDistribution(16, 32, step=16),
}
PARAMS = {"bits:conv1": 4, "width:layer2": 32}


def fill(path, goals, evaluations, resume=False):
    journal = Journal.open(path, goals, resume=resume)
    for evaluation in evaluations:
        journal.append(evaluation, PARAMS, DISTRIBUTIONS)
    journal.close()


def test_evaluations_and_parameters_come_back_exactly(tmp_path, goals, make_evaluations):
    path = tmp_path / "run" / "study.journal"
    evaluations = make_evaluations(40)
    assert any(e.is_failed for e in evaluations)
    fill(path, goals, evaluations)
    journal = Journal.open(path, goals, resume=True)
    entries = journal.read()
    journal.close()
    assert tuple(entry.evaluation for entry in entries) == evaluations
    assert all(entry.params == PARAMS for entry in entries)
    assert all(entry.distributions == DISTRIBUTIONS for entry in entries)


def test_each_evaluation_is_one_line(tmp_path, goals, make_evaluations):
    path = tmp_path / "study.journal"
    fill(path, goals, ())
    before = path.read_bytes().count(b"\n")
    for evaluation in make_evaluations(5):
        journal = Journal.open(path, goals, resume=True)
        journal.append(evaluation, PARAMS, DISTRIBUTIONS)
        journal.close()
    assert path.read_bytes().count(b"\n") == before + 5


def test_failures_are_failed_trials_and_the_rest_carry_their_goals(
    tmp_path, goals, make_evaluations
):
    journal = Journal.open(tmp_path / "study.journal", goals, resume=False)
    good = make_evaluations(1)[0]
    journal.append(good, PARAMS, DISTRIBUTIONS)
    journal.append(
        replace(good, metrics={}, failure=Failure.of_text(FailureKind.RAISED, "out of memory")),
        {},
        {},
    )
    trials = journal._study.get_trials()
    journal.close()
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL]
    accuracy, latency_s, onnx_bytes = (good.metrics[goal.metric] for goal in goals)
    assert trials[0].values == pytest.approx([100 * accuracy, 1e3 * latency_s, onnx_bytes / 1e3])
    assert trials[0].user_attrs["key"] == good.key
    assert trials[0].user_attrs["label"] == good.label
    assert trials[1].user_attrs["failed"] == "out of memory"


def test_the_study_has_the_runs_name_and_names_its_goals_with_their_units(tmp_path, goals):
    path = tmp_path / "digits" / "study.journal"
    fill(path, goals, ())
    study = optuna.load_study(study_name=None, storage=_storage(path))
    assert study.study_name.startswith("digits ")
    assert study.metric_names == ["accuracy (%)", "latency (ms)", "ONNX file (kB)"]
    assert read_journal(path).search_id == study.study_name


def test_a_study_without_names_for_its_goals_goes_on_in_si(tmp_path, goals, make_evaluations):
    # As earlier versions made it.
    path = tmp_path / "study.journal"
    storage = _storage(path)
    study = optuna.create_study(storage=storage, directions=[g.direction for g in goals])
    study.set_user_attr("goals", [asdict(goal) for goal in goals])
    first, second, third = make_evaluations(3)
    fill(path, goals, (first, second, third), resume=True)
    trials = optuna.load_study(study_name=None, storage=_storage(path)).get_trials()
    assert trials[2].values == [third.metrics[goal.metric] for goal in goals]
    assert [e.evaluation for e in read_journal(path).entries] == [first, second, third]


def test_a_record_torn_at_any_byte_costs_that_record_alone(tmp_path, goals, make_evaluations):
    path = tmp_path / "study.journal"
    evaluations = make_evaluations(4)
    fill(path, goals, evaluations)
    data = path.read_bytes()
    start = data.rfind(b"\n", 0, -1) + 1
    for cut in range(start, len(data)):
        path.write_bytes(data[:cut])
        assert tuple(e.evaluation for e in read_journal(path).entries) == evaluations[:-1]
        assert cut_torn_tail(path) == cut - start
        assert path.read_bytes() == data[:start]
    journal = Journal.open(path, goals, resume=True)
    journal.append(evaluations[-1], PARAMS, DISTRIBUTIONS)
    journal.close()
    assert tuple(e.evaluation for e in read_journal(path).entries) == evaluations


def test_a_last_line_of_garbage_is_cut_too(tmp_path, goals, make_evaluations):
    path = tmp_path / "study.journal"
    fill(path, goals, make_evaluations(3))
    data = path.read_bytes()
    path.write_bytes(data + b"\0" * 40 + b"\n")
    Journal.open(path, goals, resume=True).close()
    assert path.read_bytes() == data


def test_a_journal_killed_at_its_very_start_can_be_resumed(tmp_path, goals, make_evaluations):
    path = tmp_path / "study.journal"
    fill(path, goals, ())
    data = path.read_bytes()
    for cut in (0, 1, 40, data.find(b"\n") + 1, len(data) - 1):
        path.write_bytes(data[:cut])
        journal = Journal.open(path, goals, resume=True)
        journal.append(make_evaluations(1)[0], {}, {})
        journal.close()
        record = read_journal(path)
        assert record.goals == goals
        assert len(record.entries) == 1


def test_a_writer_killed_hard_loses_nothing_that_was_told(tmp_path, goals):
    path = tmp_path / "study.journal"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from paredown.search.study.evaluation import Evaluation, Goal
        from paredown.search.study.journal import Journal
        from paredown.spaces.candidates.candidate import Candidate

        goals = (Goal(metric="accuracy", direction="maximize"),)
        journal = Journal.open(Path(sys.argv[1]), goals, resume=False)
        shared = {"key": "k", "candidate": Candidate(), "metrics": {"accuracy": 0.5}}
        for number in range(10**6):
            journal.append(Evaluation(number=number, **shared), {}, {})
            print(number, flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        told = [next(process.stdout) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.readlines()
    accuracy = (Goal(metric="accuracy", direction="maximize"),)
    journal = Journal.open(path, accuracy, resume=True)
    numbers = [entry.evaluation.number for entry in journal.read()]
    journal.close()
    assert numbers == list(range(len(numbers)))
    # The line that a kill cuts from the pipe was still on disk before it was told.
    assert len(numbers) >= len(told)


@pytest.mark.parametrize("line", [b"garbage", b"{}", b"[]", b"1", b"\xff"])
def test_a_record_that_cannot_be_read_is_told(tmp_path, goals, make_evaluations, line):
    path = tmp_path / "study.journal"
    fill(path, goals, make_evaluations(3))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:3], line, *lines[4:]]))
    with pytest.raises(JournalError, match="cannot be read"):
        read_journal(path)
    with pytest.raises(JournalError, match="cannot be read"):
        Journal.open(path, goals, resume=True)


def test_a_study_that_was_only_just_named_is_empty_and_can_be_begun(tmp_path, goals):
    path = tmp_path / "study.journal"
    fill(path, goals, ())
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(JournalError, match="empty"):
        read_journal(path)
    fill(path, goals, (), resume=True)
    assert read_journal(path).goals == goals


def test_a_second_search_on_the_same_folder_is_refused(tmp_path, goals, make_evaluations):
    path = tmp_path / "study.journal"
    fill(path, goals, make_evaluations(1))
    with pytest.raises(JournalError, match="--resume"):
        Journal.open(path, goals, resume=False)


def test_a_second_writer_is_refused_while_readers_may_look(tmp_path, goals, make_evaluations):
    path = tmp_path / "study.journal"
    journal = Journal.open(path, goals, resume=False)
    journal.append(make_evaluations(1)[0], {}, {})
    with pytest.raises(JournalError, match="in use"):
        Journal.open(path, goals, resume=True)
    assert len(read_journal(path).entries) == 1
    journal.close()


def test_other_goals_are_refused_and_other_bounds_are_kept(tmp_path, goals):
    path = tmp_path / "study.journal"
    fill(path, goals, ())
    with pytest.raises(JournalError, match="minimize onnx_bytes"):
        Journal.open(path, goals[:2], resume=True)
    bounded = (replace(goals[0], at_least=0.87), *goals[1:])
    Journal.open(path, bounded, resume=True).close()
    assert read_journal(path).goals == bounded


def test_attributes_stay_and_the_search_keeps_its_name(tmp_path, goals):
    path = tmp_path / "study.journal"
    journal = Journal.open(path, goals, resume=False)
    journal.set_attribute("mlflow_run_id", "abc")
    journal.set_attribute("child:0123", "def")
    name = journal.search_id
    with pytest.raises(JournalError, match="taken"):
        journal.set_attribute("goals", 1)
    journal.close()
    record = read_journal(path)
    assert record.attributes == {"mlflow_run_id": "abc", "child:0123": "def"}
    assert record.search_id == name


def test_a_study_is_resumed_only_for_what_it_is_about(tmp_path, goals, make_evaluations):
    path = tmp_path / "study.journal"
    facts = {"weights": "aa", "search.rung_images": "1500"}
    journal = Journal.open(path, goals, resume=False)
    journal.keep_problem(facts)
    journal.append(make_evaluations(1)[0], {}, {})
    journal.close()
    again = Journal.open(path, goals, resume=True)
    again.keep_problem(dict(facts))
    with pytest.raises(JournalError, match=r"search.rung_images \(1500 then, 100 now\)") as told:
        again.keep_problem(facts | {"search.rung_images": "100"})
    assert "weights" not in str(told.value)
    assert "another `output` folder" in str(told.value)
    assert "problem" not in again.attributes
    again.close()


def test_a_study_that_does_not_say_what_it_is_about_is_not_resumed(
    tmp_path, goals, make_evaluations
):
    path = tmp_path / "study.journal"
    fill(path, goals, make_evaluations(1))
    journal = Journal.open(path, goals, resume=True)
    with pytest.raises(JournalError, match="earlier version"):
        journal.keep_problem({"weights": "aa"})
    journal.close()


def test_a_folder_without_a_study_is_told(tmp_path):
    with pytest.raises(JournalError, match="none in"):
        read_journal(tmp_path / "study.journal")


def test_a_successful_evaluation_without_its_goals_is_refused(tmp_path, goals, make_evaluations):
    journal = Journal.open(tmp_path / "study.journal", goals, resume=False)
    evaluation = replace(make_evaluations(1)[0], metrics={"accuracy": 0.5})
    with pytest.raises(ValueError, match="latency_s"):
        journal.append(evaluation, {}, {})
    journal.close()
    assert read_journal(tmp_path / "study.journal").entries == ()
