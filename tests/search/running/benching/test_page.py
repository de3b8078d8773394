"""The page of a bench: what is drawn is what was found, and nothing foreign is markup."""

from __future__ import annotations

import json

import pytest

from paredown.search.report.pages import LIBRARY
from paredown.search.running.benching.page import bench_body, volume_figure, write_tables

CURVES = {
    ("tpe", 4): [[0.0, 0.1, 0.1, 0.3], [0.0, 0.2, 0.2, 0.2]],
    ("tpe", 2): [[0.0, 0.15], [0.0, 0.05]],
    ("uniforms", 4): [[0.0, 0.25]],
    ("mine.<b>:make", 4): [[0.0, 0.0, 0.0, 0.4]],
}


@pytest.fixture
def result(made_result):
    return made_result(CURVES)


def test_a_line_is_the_median_and_a_band_the_range(result):
    arm = next(arm for arm in result.arms if arm.name == "tpe")
    band, line, points = volume_figure(result, [arm]).data
    assert list(line.x) == [1, 2, 3, 4]
    assert list(line.y) == pytest.approx([0.0, 0.15, 0.15, 0.25])
    assert [row[0] for row in line.customdata] == [1000, 2000, 3000, 4000]
    assert list(band.y) == pytest.approx([0.0, 0.2, 0.2, 0.3, 0.2, 0.1, 0.1, 0.0])
    assert (list(points.x), list(points.y)) == ([2], pytest.approx([0.1]))


def test_the_best_known_is_a_line_of_its_own(result, made_result):
    (line,) = volume_figure(result, []).layout.shapes
    assert (line.y0, line.y1) == (0.5, 0.5)
    assert not volume_figure(made_result(CURVES, best=0.0), []).layout.shapes


def test_nothing_foreign_is_markup(result):
    body = bench_body(result)
    assert "mine.<b>" not in body.replace("mine.\\u003cb", "")
    assert "mine.&lt;b&gt;:make" in body
    assert body.count("uniforms") >= 1


def test_an_interrupted_bench_says_so(result, made_result):
    assert "interrupted" in bench_body(made_result(CURVES, is_whole=False))
    assert "interrupted" not in bench_body(result)


def test_all_files_are_written_whole_and_again(result, tmp_path):
    page = write_tables(tmp_path, result)
    assert write_tables(tmp_path, result) == page
    assert {p.name for p in tmp_path.iterdir()} == {
        "bench.html",
        "table.json",
        "table.csv",
        LIBRARY,
    }
    assert json.loads((tmp_path / "table.json").read_text())["name"] == "made"
    assert "http" not in page.read_text().replace("https://plot.ly", "")
