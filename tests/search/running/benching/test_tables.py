"""The tables of a bench: terminal, JSON and CSV say the same."""

from __future__ import annotations

import csv
import io
import json

from paredown.search.report.terminal import plain_text
from paredown.search.running.benching.tables import bench_csv, bench_json, bench_table

CURVES = {
    ("slow", 50): [[0.4], [0.1, 0.41], [0.3]],
    ("slow", 200): [[0.41]],
    ("fast", 50): [[0.1], [0.1], [0.1]],
    ("fast", 200): [[0.45]],
}


def test_the_best_arm_at_the_largest_budget_stands_first_with_its_share(made_result):
    text = plain_text(bench_table(made_result(CURVES)))
    assert "best known: 0.5000, 3 models of 40 candidates" in text.lower()
    assert "50,000 in 50 evaluations and 200,000 in 200 evaluations" in text
    fast, slow = (line.split() for line in text.splitlines()[-2:])
    assert fast == [
        "fast",
        "0.1000",
        "0.100–0.100",
        *["20.0", "%", "0.4500", "0.450–0.450", "90.0", "%"],
    ]
    assert slow[:5] == ["slow", "0.4000", "0.300–0.410", "80.0", "%"]


def test_it_fits_a_terminal_of_80_columns(made_result):
    long = {
        (f"arm-of-{i}+uniforms", budget): [[0.1], [0.2]] for i in range(3) for budget in (50, 200)
    }
    lines = plain_text(bench_table(made_result(long)), width=80).splitlines()
    assert not any("…" in line for line in lines)


def test_runs_that_are_missing_are_dashes_and_no_volume_has_no_share(made_result):
    text = plain_text(bench_table(made_result({("a", 50): [[0.1]], ("b", 200): [[0.2]]})))
    assert [line.split()[1] for line in text.splitlines()[-2:]] == ["–", "0.1000"]
    assert "one seed" in text
    none = plain_text(bench_table(made_result({("a", 50): [[0.0]]}, best=0.0)))
    assert none.splitlines()[-1].split()[-1] == "–"


def test_json_has_every_run_with_its_curve_and_every_arm_with_its_figures(made_result):
    found = json.loads(json.dumps(bench_json(made_result(CURVES)), allow_nan=False))
    assert [run["volumes"] for run in found["runs"]] == [c for e in CURVES.values() for c in e]
    assert found["runs"][1]["images"] == 2000
    assert len(found["runs"][1]["keys"]) == 2
    fast, slow = found["arms"]
    assert [fast["name"], slow["name"]] == ["fast", "slow"]
    assert slow["budgets"][0] == {
        "evaluations": 50,
        "images": 50_000,
        "median": 0.4,
        "low": 0.3,
        "high": 0.41,
        "share_of_best": 0.8,
    }


def test_csv_has_a_line_for_each_run(made_result):
    rows = list(csv.DictReader(io.StringIO(bench_csv(made_result(CURVES)))))
    assert len(rows) == 8
    assert rows[1] == {
        "arm": "slow",
        "seed": "1",
        "budget": "50",
        "evaluations": "2",
        "images": "2000",
        "failed": "0",
        "volume": "0.41",
        "share_of_best": "0.82",
    }
