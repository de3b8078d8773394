"""Records of a journal are sealed: none is changed unseen, and a damaged one is named by its line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.journal import Journal, JournalError, Record, read_journal
from paredown.search.study.record_file import cut_torn_tail

MakeEvaluations = Callable[[int], tuple[Evaluation, ...]]


@pytest.fixture
def path(tmp_path: Path, goals: tuple[Goal, ...], make_evaluations: MakeEvaluations) -> Path:
    """A journal of 5 evaluations."""
    journal = Journal.open(tmp_path / "study.journal", goals, resume=False)
    for evaluation in make_evaluations(5):
        journal.append(evaluation, {}, {})
    journal.close()
    return tmp_path / "study.journal"


def _without_digests(path: Path) -> None:
    """The file as a version wrote it that knew none."""
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    for record in records:
        record.pop("digest", None)
    path.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records))


def _read(path: Path) -> Record | None:
    try:
        return read_journal(path)
    except JournalError:
        return None


def test_no_flipped_bit_is_unseen_and_none_raises_anything_else(path: Path) -> None:
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        assert _read(path) is None


def test_a_flipped_bit_of_an_end_of_line_or_of_the_last_record_is_damage_not_a_torn_tail(
    path: Path, goals: tuple[Goal, ...]
) -> None:
    whole = path.read_bytes()
    for position in range(len(whole) - 80, len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(JournalError, match=f"line {whole.count(10)} "):
                Journal.open(path, goals, resume=True)
            assert path.read_bytes() == bytes(damaged)


@pytest.mark.parametrize("line", [1, 2, 4, 7])
def test_a_damaged_record_is_named_by_its_line(path: Path, line: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    at = lines[line - 1].index(b":") + 1
    lines[line - 1] = lines[line - 1][:at] + b"7" + lines[line - 1][at + 1 :]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=rf"line {line} .*digest.* delete the line"):
        read_journal(path)


def test_without_its_line_the_other_evaluations_go_on(
    path: Path, goals: tuple[Goal, ...], make_evaluations: MakeEvaluations
) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6] + lines[7:]))
    journal = Journal.open(path, goals, resume=True)
    journal.append(make_evaluations(6)[5], {}, {})
    journal.close()
    assert [e.evaluation.number for e in read_journal(path).entries] == [0, 1, 3, 4, 5]


def test_a_journal_of_an_earlier_version_goes_on_and_is_sealed_from_there(
    path: Path, goals: tuple[Goal, ...], make_evaluations: MakeEvaluations
) -> None:
    evaluations = make_evaluations(6)
    _without_digests(path)
    old = path.read_bytes()
    journal = Journal.open(path, goals, resume=True)
    journal.append(evaluations[5], {}, {})
    journal.close()
    assert path.read_bytes().startswith(old)
    assert b'"digest":"blake2b-' in path.read_bytes()[len(old) :]
    assert tuple(e.evaluation for e in read_journal(path).entries) == evaluations


def test_an_old_journal_that_cannot_be_read_names_the_line_too(path: Path) -> None:
    _without_digests(path)
    whole = path.read_bytes()
    chance = random.Random(1)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        _read(path)  # anything but a JournalError fails here
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines).replace(b'"candidate"', b'"candidatf"'))
    with pytest.raises(JournalError, match=r"line 5 .*candidat"):
        read_journal(path)


@pytest.mark.parametrize(
    "line", ["[" * 5000, "9" * 6000, '{"op_code": ' + "1" * 6000 + "}", "3", '{"a": 1, "a": 2}']
)
def test_a_line_that_is_no_record_is_named(path: Path, line: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], line + "\n", *lines[3:]]))
    with pytest.raises(JournalError, match="line 4 "):
        read_journal(path)


def test_optunas_own_storage_reads_sealed_records(path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(path)))
    (name,) = optuna.get_all_study_names(storage)
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == 5


def test_a_folder_that_may_only_be_read_is_read(path: Path, monkeypatch: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "touch", refuse)
    assert len(read_journal(path).entries) == 5


LINES = [json.dumps({"number": n, "text": "a\\nb"}).encode() + b"\n" for n in range(3)]


@pytest.mark.parametrize("cut", range(len(b"".join(LINES)) + 1))
def test_whole_lines_stay_and_the_rest_goes(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"".join(LINES)[:cut])
    whole = b"".join(LINES[: cut // len(LINES[0])])
    assert cut_torn_tail(path) == cut - len(whole)
    assert path.read_bytes() == whole
    assert cut_torn_tail(path) == 0


def test_a_last_line_that_is_no_json_goes_with_its_end(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(LINES[0] + b'{"half": \n')
    assert cut_torn_tail(path) == len(b'{"half": \n')
    assert path.read_bytes() == LINES[0]


def test_a_file_that_is_not_there_has_no_tail(tmp_path: Path) -> None:
    assert cut_torn_tail(tmp_path / "none") == 0
    assert list(tmp_path.iterdir()) == []
