"""A search as it is shown: lines in a log, a panel on a terminal."""

import io

from rich.console import Console

from paredown.search.live import Display
from paredown.search.pareto import Front


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
