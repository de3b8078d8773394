"""The report's page."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from paredown.search.report.page import RunSummary, report_page, write_report
from paredown.search.report.style import Picture
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.display import Outline
from paredown.search.study.pareto import front_of
from paredown.spaces.structure.model_map import LeftOut


class Cells(HTMLParser):
    """Text of every table cell, and every link."""

    def __init__(self):
        super().__init__()
        self.rows, self.links, self.depth = [], [], 0

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.depth = 1
        elif tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.depth = 0

    def handle_data(self, data):
        if self.depth:
            self.rows[-1][-1] += data


@pytest.fixture
def page(goals, make_evaluations, layer_weights, tmp_path):
    evaluations = make_evaluations(40)
    front = front_of(evaluations, goals)
    good, bad = front.members[2], front.members[3]
    bundles = tuple(
        BundleCheck(
            key=member.key,
            folder=f"bundles/{member.key}",
            predicted=member.metrics,
            measured={n: v * 1.02 for n, v in member.metrics.items()},
            mismatches=("latency ratio 0.7 is outside 0.5 to 0.6",) if member is bad else (),
        )
        for member in (good, bad)
    )
    return written(evaluations, front, layer_weights, tmp_path, bundles)


def written(evaluations, front, layer_weights, tmp_path, bundles):
    """The page of a run, and the summary it was written from."""
    outline = Outline(layer_weights=layer_weights, widths={})
    summary = RunSummary(
        model="resnet20 <script>",
        device="this machine",
        picture=Picture(evaluations=evaluations, front=front, outline=outline),
        duration_s=93.2,
        seconds={"statistics": 30.0, "training": 60.04, "verification": 10.0},
        bundles=bundles,
        left_out=(LeftOut(what="embedding", reason="no kernel for it"),),
        over_bound=12,
    )
    places = {bundle.key: f"bundles/{bundle.key}/" for bundle in bundles}
    return write_report(tmp_path, summary, places).read_text(), summary


def test_the_page_of_a_folder_has_its_library_beside_it(page, tmp_path):
    text, _ = page
    assert re.findall(r'<script src="([^"]*)"', text) == ["plotly.min.js"]
    assert (tmp_path / "plotly.min.js").read_text() == get_plotlyjs()
    assert len(text) < 1_000_000
    assert "resnet20 &lt;script&gt;" in text


def test_the_page_for_mlflow_needs_nothing_else_and_links_to_nothing(page):
    text = report_page(page[1])
    assert "<script src" not in text
    assert text.count(get_plotlyjs()) == 1
    body = text.replace(get_plotlyjs(), "")
    assert "href" not in body
    assert "bundles/" not in body


def test_the_front_table_has_each_model_with_its_ratio(page):
    text, summary = page
    reader = Cells()
    reader.feed(text.split("<h2>The front</h2>")[1].split("<h2>")[0])
    base = summary.picture.evaluations[0].metrics["onnx_bytes"]
    head, *rows = reader.rows
    assert head[1:4] == ["accuracy (%)", "latency (ms)", "ONNX file (kB)"]
    assert [row[0] for row in rows[:2]] == ["uncompressed", "uniform 8-bit"]
    shown = {row[0]: row for row in rows}
    named = {member.label or member.key: member for member in summary.picture.ordered}
    assert set(shown) == {*named, "uncompressed", "uniform 8-bit"}
    for name, member in named.items():
        size = member.metrics["onnx_bytes"]
        value, ratio = shown[name][3].split()
        assert float(value) == pytest.approx(size / 1e3, rel=1e-3)
        assert ratio == f"{base / size:.2f}×"
    assert set(reader.links) == {f"{bundle.folder}/" for bundle in summary.bundles}


def test_the_least_of_each_cost_is_named_for_nothing_and_at_all(page):
    text, summary = page
    said = text.split("In short:")[1].split("</ul>")[0]
    base, *_ = summary.picture.evaluations
    others = [m for m in summary.picture.front.members if m is not base]
    for cost in ("latency_s", "onnx_bytes"):
        for among in (
            others,
            [m for m in others if m.metrics["accuracy"] >= base.metrics["accuracy"]],
        ):
            best = min((m for m in among), key=lambda m: m.metrics[cost], default=None)
            assert best is None or (best.label or best.key) in said
    assert "least latency" in said


def test_mismatches_failures_and_what_was_left_out_are_told(page):
    text, summary = page
    assert "2 models were exported, reloaded and checked; 1 did not hold." in text
    assert "latency ratio 0.7 is outside" in text
    assert "12 candidates were over a hard bound" in text
    assert "no kernel for it" in text
    assert "1 min 33 s" in text
    failed = [e for e in summary.picture.evaluations if e.is_failed]
    assert failed
    assert all(e.key in text.split("Failed evaluations")[1] for e in failed)
    assert "+2.0%" in text


def test_what_was_not_checked_is_told_and_every_measured_column_is_there(
    goals, make_evaluations, layer_weights, tmp_path
):
    evaluations = make_evaluations(20)
    front = front_of(evaluations, goals)
    first, second, third = front.members[:3]
    seen = {"predicted": {"onnx_bytes": 10.0}, "measured": {"onnx_bytes": 10.0}}
    ratio = {"latency_ratio": 0.5, "latency_ratio_low": 0.4, "latency_ratio_high": 0.625}
    faster = {name: {**values, **ratio} for name, values in seen.items()}
    reason = "latency: was predicted for an abacus"
    bundles = (
        BundleCheck(
            key=first.key, folder="a", predicted={}, measured={}, mismatches=("error: x",)
        ),
        BundleCheck(key=second.key, folder="b", unchecked=(reason,), **seen),
        BundleCheck(key=third.key, folder="c", **faster),
    )
    text, _ = written(evaluations, front, layer_weights, tmp_path, bundles)
    assert "3 models were exported, reloaded and checked; 1 did not hold, 1 could not be" in text
    assert "checked in everything (latency)." in text
    section = text.split("Predicted against measured</h2>")[1].split("<h2>")[0]
    reader = Cells()
    reader.feed(section)
    head, *rows = reader.rows
    assert len(head) == 4
    assert ["→" in row[1] for row in rows] == [False, True, True]
    assert ["→" in row[2] for row in rows] == [False, False, True]
    assert "predicted 0.400 to 0.625" in rows[2][2], "an interval stands with its figure"
    assert [row[3] for row in rows[1:]] == [
        f"partly checkednot checked: {reason}",
        "verified",
    ]


def test_latencies_outside_their_intervals_are_counted_and_no_failures(
    goals, make_evaluations, layer_weights, tmp_path
):
    evaluations = make_evaluations(20)
    front = front_of(evaluations, goals)
    timed = {"latency_ratio": 0.5, "uncompressed_latency_s": 2e-5}
    warnings = ("latency: 0.9 of the uncompressed model's was measured",)
    bundles = tuple(
        BundleCheck(
            key=member.key,
            folder="a",
            predicted={},
            measured=timed,
            warnings=warnings if position == 1 else (),
        )
        for position, member in enumerate(front.members[:3])
    )
    text, _ = written(evaluations, front, layer_weights, tmp_path, bundles)
    assert "3 models were exported, reloaded and checked; all hold." in text
    assert "1 of 3 measured latencies lie outside their 95 % intervals" in text
    assert "warning: latency: 0.9 of the uncompressed" in text


def test_where_the_time_went_has_seconds_and_shares(page):
    text, summary = page
    reader = Cells()
    reader.feed(text.split("<h2>Where the time went</h2>")[1].split("<h2>")[0])
    _, *rows = reader.rows
    assert [row[1:] for row in rows] == [["30.0", "30.0%"], ["60.0", "60.0%"], ["10.0", "10.0%"]]
    assert rows[1][0].startswith("training")
    untimed = report_page(replace(summary, seconds={}))
    assert "Where the time went" not in untimed
