"""The best known fronts that are kept: every line is whole, and has a score."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from paredown.search.running.benching.outcomes import OutcomeFile
from paredown.search.study.rung import Rung
from paredown.spaces.system.bounded import as_mapping, parse_json

POOLS = Path(__file__).resolve().parents[2] / "benchmarks" / "search" / "pools"


@pytest.mark.parametrize("name", sorted(path.name for path in POOLS.glob("*.jsonl")))
def test_a_pool_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shutil.copy(POOLS / name, path)
    lines = [as_mapping(parse_json(line)) for line in path.read_bytes().splitlines()]
    assert lines
    found = set()
    for problem in {str(line["problem"]) for line in lines}:
        for rung in (Rung.from_json(as_mapping(line["rung"])) for line in lines):
            pool = OutcomeFile(path, problem, rung)
            assert all(known.outcome.score is not None for known in pool.known.values())
            found |= {(problem, rung, key) for key in pool.known}
    assert len(found) == len(lines), "no line is twice there, and none is of another version"
    assert path.read_bytes() == (POOLS / name).read_bytes()
