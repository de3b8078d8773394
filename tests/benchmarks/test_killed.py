"""What the benchmark of killed searches ends, and what it calls a difference of two fronts."""

from __future__ import annotations

import runpy
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paredown.search.study import Evaluation
from paredown.spaces.candidates import Candidate

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training" / "killed.py"


@pytest.fixture(scope="module")
def killed() -> dict[str, Callable[..., object]]:
    return runpy.run_path(str(SCRIPT))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_all_that_descends_is_killed_in_groups_of_its_own_too(killed, tmp_path: Path) -> None:
    number = tmp_path / "pid"
    script = f"setsid bash -c 'echo $$ > {number}; sleep 600' & sleep 600"
    process = subprocess.Popen(["bash", "-c", script], start_new_session=True)
    while not number.is_file() or not number.read_text():
        time.sleep(0.01)
    far = int(number.read_text())
    assert _is_alive(far)
    killed["kill_all"](process.pid)
    assert process.wait(10) == -9
    deadline = time.monotonic() + 10
    while _is_alive(far) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_alive(far)


def test_fronts_differ_by_any_digit_and_by_digests_and_members(killed) -> None:
    front = tuple(
        Evaluation(
            number=i, key=key, candidate=Candidate(), metrics={"accuracy": 0.3}, trained="abc"
        )
        for i, key in enumerate(("a", "b", "c"))
    )
    differences = killed["differences"]
    assert differences(front, front[::-1]) == []
    first, second, third = front
    nearly = {**first.metrics, "accuracy": first.metrics["accuracy"] * (1 + 1e-15)}
    for other in (replace(first, metrics=nearly), replace(first, trained="abd")):
        (line,) = differences(front, (other, second, third))
        assert line.startswith(first.key)
    (line,) = differences(front, (second, third))
    assert "not on the front killed" in line
