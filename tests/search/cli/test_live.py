"""A search as it is shown: lines in a log, a panel on a terminal."""

import io
from dataclasses import replace

from rich.console import Console

from paredown.search.cli.live import Display, clock_text
from paredown.search.running.timetable import SEARCH, STATISTICS, VERIFICATION, Timetable
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.pareto import Front


def test_a_log_gets_a_line_every_ten_evaluations_and_each_failure(goals, make_evaluations):
    console = Console(file=io.StringIO(), width=200)
    ticks = iter(range(10_000))
    evaluations = make_evaluations(40)
    with Display(console, clock=lambda: float(next(ticks))) as display:
        display.started(40)
        _tell_all(display, evaluations, goals)
    lines = console.file.getvalue().splitlines()
    failures = [e for e in evaluations if e.is_failed]
    assert failures
    assert sum("evaluations" in line for line in lines) + len(failures) in range(
        4, 5 + len(failures)
    )
    assert all(any(e.key in line and "NaN" in line for line in lines) for e in failures)


def test_the_panel_shows_count_front_and_last_evaluations(goals, make_evaluations):
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system=None)
    now = [0.0]
    evaluations = [e for e in make_evaluations(20) if not e.is_failed]
    with Display(console, clock=lambda: now[0]) as display:
        display.started(2 * len(evaluations))
        now[0] = 60.0
        front = _tell_all(display, evaluations, goals)
        shown = _plain(display._panel())
    assert f"{len(evaluations)}/{2 * len(evaluations)}" in shown
    # Half is done in a minute, so the other half takes one more.
    assert "1:00 left" in shown
    assert f"front {len(front.members)}" in " ".join(shown.split())
    assert all(e.key in shown for e in evaluations[-5:])
    assert "best of" in shown


def planned(display):
    expected = {STATISTICS: 20.0, SEARCH: 60.0, VERIFICATION: 40.0}
    display.planned(Timetable(expected_s=expected, models=10, is_rough=True))


def test_a_log_says_how_long_it_will_take_and_counts_what_is_verified(goals, make_evaluations):
    console = Console(file=io.StringIO(), width=200)
    now = [0.0]
    evaluations = [e for e in make_evaluations(20) if not e.is_failed]
    with Display(console, clock=lambda: now[0]) as display:
        planned(display)
        display.started(len(evaluations))
        now[0] = 60.0
        front = _tell_all(display, evaluations, goals)
        total = len(front.members)
        display.verifying(total)
        for done in range(1, total + 1):
            now[0] += 4.0
            display.verified(None, done, total)
    lines = console.file.getvalue().splitlines()
    assert "about 2 min: 0.3 statistics, 1 search, 0.7 verification" in lines[0]
    (last,) = [line for line in lines if f"{len(evaluations)}/{len(evaluations)} eval" in line]
    # Four seconds a model, for as many as there are.
    assert f", {clock_text(4.0 * total)} left" in last
    verified = [line for line in lines if "  verified " in line]
    assert f"verified {total}/{total}, 0:00 left" in verified[-1]
    # Half of ten expected in 40 s, so that each takes what was expected.
    assert 5 <= len(verified) <= 20


def test_the_panel_has_a_bar_for_each_phase(goals, make_evaluations):
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system=None)
    now = [0.0]
    evaluations = [e for e in make_evaluations(20) if not e.is_failed]
    with Display(console, clock=lambda: now[0]) as display:
        planned(display)
        now[0] = 10.0
        display.started(len(evaluations))
        front = _tell_all(display, evaluations, goals)
        display.verifying(len(front.members))
        display.verified(None, 1, len(front.members))
        rows = [line.split() for line in _plain(display._panel()).splitlines()]
    found = {row[1]: row for row in rows if len(row) > 1 and row[1] in (SEARCH, VERIFICATION)}
    assert f"{len(evaluations)}/{len(evaluations)}" in found[SEARCH]
    assert f"1/{len(front.members)}" in found[VERIFICATION]
    assert any(row[1:2] == [STATISTICS] and "0:10" in row for row in rows)


def _tell_all(display, evaluations, goals):
    front = Front(goals)
    for done, evaluation in enumerate(evaluations, 1):
        front = front.add(evaluation)
        display.told(evaluation, front, 0.1, done)
    return front


def _plain(renderable):
    console = Console(file=io.StringIO(), width=240, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def test_a_failure_is_told_by_the_sentence_it_begins_with(goals, make_evaluations):
    console = Console(file=io.StringIO(), width=200)
    failed = next(e for e in make_evaluations(40) if e.is_failed)
    said = "UserCodeError: task.metric: own, given 300 rows, raised ValueError: no; correct it"
    failed = replace(
        failed,
        failure=Failure.of_text(
            FailureKind.RAISED, f"{said}:\n  /home/me/own.py:7, in own: raise ValueError('no')"
        ),
    )
    with Display(console) as display:
        display.started(1)
        _tell_all(display, [failed], goals)
    lines = console.file.getvalue().splitlines()
    assert any(line.endswith(f"{failed.key} failed: {said}") for line in lines)
