"""Searches side by side: no candidate is evaluated twice, and all have equal budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paredown.search.config.schema import SAMPLERS
from paredown.search.running.benching.contests import Search
from paredown.search.space.uniform_settings import uniform_settings
from paredown.search.study.evaluation import UNCOMPRESSED


@pytest.fixture
def search(workbench) -> Search:
    return Search(space=workbench.space, sampler="random", seed=0, evaluations=14)


def test_a_search_has_its_budget_with_the_references_first(contest, inventor, counter, search):
    history = contest.carry_out(search)
    assert len({e.key for e in history}) == 14
    assert [e.label for e in history[:3]] == [UNCOMPRESSED, "uniform 8-bit", "uniform 4-bit"]
    assert inventor.keys == [e.key for e in history[1:]], "the uncompressed model is known"
    assert counter.new == 13
    assert any(e.is_failed for e in history), "failed candidates are rows like others"


def test_what_is_known_is_never_evaluated_again(contest, contest_at, tmp_path, inventor, search):
    first = contest.carry_out(search)
    asked = list(inventor.keys)
    assert contest.carry_out(search) == first
    # As in another process, which has the file alone.
    again = contest_at(tmp_path / "outcomes.jsonl").carry_out(search)
    assert [(e.key, e.metrics, e.failure) for e in again] == [
        (e.key, e.metrics, e.failure) for e in first
    ]
    assert inventor.keys == asked


def test_a_kill_loses_nothing_that_was_finished(contest, contest_at, tmp_path, inventor, search):
    whole = contest.carry_out(search)
    path = tmp_path / "outcomes.jsonl"
    # What a process that was killed in its seventh evaluation leaves: six lines and the start of one.
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]) + lines[6][:40])
    inventor.keys.clear()
    assert [e.key for e in contest_at(path).carry_out(search)] == [e.key for e in whole]
    assert inventor.keys == [e.key for e in whole[7:]]


def test_seeds_and_samplers_draw_differently(contest, search):
    keys = [e.key for e in contest.carry_out(search)]
    assert [e.key for e in contest.carry_out(replace(search, seed=1))] != keys
    assert [e.key for e in contest.carry_out(replace(search, sampler=SAMPLERS[0]))] != keys


def test_first_candidates_come_first_and_are_cut_at_the_budget(contest, workbench, search):
    first = tuple(uniform_settings(workbench.space.architectures))
    history = contest.carry_out(replace(search, first=first))
    new = [c.key for c in first if c.key not in {e.key for e in history[:3]}]
    assert [e.key for e in history[3 : 3 + len(new)]] == new[: 14 - 3]
    alone = contest.carry_out(replace(search, sampler=None, first=first, evaluations=5))
    assert [e.key for e in alone] == [e.key for e in history[:5]]
