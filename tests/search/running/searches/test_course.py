"""Ctrl-C at any stage of a search, and an export that fails, leave front and report of what is known."""

import json

import pytest

from paredown.search.running import course
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import UNCOMPRESSED
from paredown.search.study.run_record import read_run


def written_front(folder):
    return {member["key"] for member in json.loads((folder / "front.json").read_text())}


def interrupt(*_):
    raise KeyboardInterrupt


def check_and_interrupt(workbench, ledger, folder):
    key = ledger.front.members[0].key
    yield BundleCheck(key=key, folder=f"bundles/{key}", predicted={}, measured={})
    raise KeyboardInterrupt


def assert_is_told(found, checks, parent_status):
    assert found.interrupted
    assert "stopped early: interrupted" in (found.folder / "report.html").read_text()
    assert written_front(found.folder) == read_run(found.folder).front.keys == found.front.keys
    assert len(found.front.members) > 0
    assert len(found.bundles) == checks
    assert parent_status(found.folder) == "KILLED"


def test_an_interruption_after_the_first_evaluation_leaves_front_and_report(
    search, tmp_path, monkeypatch, parent_status
):
    monkeypatch.setattr(course, "known_outlook", interrupt)
    found = search(tmp_path)
    assert_is_told(found, 0, parent_status)
    assert [e.label for e in found.evaluations] == [UNCOMPRESSED]


@pytest.mark.parametrize(
    ("stage", "ends", "checks"),
    [("explore", interrupt, 0), ("export_front", check_and_interrupt, 1)],
)
def test_an_interruption_at_a_later_stage_leaves_front_and_report(
    search, copied, monkeypatch, stage, ends, checks, parent_status
):
    monkeypatch.setattr(course, stage, ends)
    assert_is_told(search(copied.parent, resume=True), checks, parent_status)


def test_an_interrupted_resumption_shows_the_front_the_journal_has(search, tmp_path, monkeypatch):
    place = "search.rung_images=100"
    with monkeypatch.context() as unwritten:
        unwritten.setattr(course, "export_front", lambda *_: ())
        unwritten.setattr(course, "write_pages", lambda *_: None)
        unwritten.setattr(course, "log_pages", lambda *_: None)
        whole = search(tmp_path, place)
    assert whole.front.rung.number == 1
    monkeypatch.setattr(course, "explore", interrupt)
    again = search(tmp_path, place, resume=True)
    assert again.interrupted
    assert again.front.keys == whole.front.keys
    assert written_front(again.folder) == whole.front.keys == read_run(again.folder).front.keys


def test_an_export_that_fails_altogether_finds_the_report_written(
    search, copied, monkeypatch, parent_status
):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr(course, "export_front", broken)
    with pytest.raises(MemoryError):
        search(copied.parent, resume=True)
    assert (copied / "report.html").exists()
    assert written_front(copied) == read_run(copied).front.keys
    assert parent_status(copied) == "FAILED"
