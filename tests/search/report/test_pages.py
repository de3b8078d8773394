"""Pages: where their library is, and what they say without it."""

import re

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from paredown.search.report.pages import (
    LIBRARY,
    drawn,
    side_by_side,
    table,
    whole_page,
    write_page,
)


def test_pages_of_a_folder_share_one_library(tmp_path):
    body = drawn(go.Figure(), 300)
    first, second = (write_page(tmp_path / f"{name}.html", name, body) for name in "ab")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html", LIBRARY]
    for page in (first, second):
        text = page.read_text()
        assert f'<script src="{LIBRARY}"' in text
        assert "Plotly.newPlot" in text
        assert "http" not in text.replace("https://plot.ly", "")
        assert len(text) < 20_000


def test_a_library_of_another_version_is_replaced(tmp_path):
    (tmp_path / LIBRARY).write_text("an old one")
    write_page(tmp_path / "a.html", "a", "")
    assert (tmp_path / LIBRARY).read_text() == get_plotlyjs()


def test_a_page_without_its_library_says_what_it_needs(tmp_path):
    text = write_page(tmp_path / "a.html", "a", "").read_text()
    assert "onerror" in text
    assert f"The pictures need the file {LIBRARY}" in text


def test_a_whole_page_loads_nothing():
    text = whole_page("a", side_by_side([go.Figure(), go.Figure()]))
    assert "<script src" not in text
    assert text.count(get_plotlyjs()) == 1
    assert text.count("Plotly.newPlot(") == 2 + get_plotlyjs().count("Plotly.newPlot(")


def test_titles_and_heads_are_text():
    assert "<title>a &lt;b&gt;</title>" in whole_page("a <b>", "")
    assert "<th>&lt;i&gt;</th>" in table(["<i>"], [["1"]])
    assert "<tr><td>1</td></tr><tr class=faint><td>2</td></tr>" in table(
        ["n"], [["1"], ["2"]], faint=[1]
    )


def test_only_a_page_without_its_library_says_that_it_lacks_one(tmp_path):
    text = write_page(tmp_path / "page.html", "page", "").read_text("utf-8")
    rules = re.findall(r"([^{}\n]*\.missing) \{ display: (\w+);", text)
    assert rules == [(".missing", "none"), (".without-library .missing", "block")]
