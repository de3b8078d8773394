"""What the report says of why the front's models are as they are."""

from dataclasses import replace

import pytest

from paredown.search.proposing.explaining.explanation import (
    SHOWN,
    Explanation,
    Importance,
    Lost,
    Member,
    Step,
    Worth,
)
from paredown.search.report.page import RunSummary, report_page
from paredown.search.report.why import why_section
from paredown.search.study.evaluation import Goal

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
EVIL = "<img src=x>"


def worth(what, bought=2500.0, lost=0.004):
    return Worth(
        what=what,
        choice="weight bits 4",
        bought={"onnx_bytes": bought},
        growth={"onnx_bytes": 1.25},
        lost={"accuracy": Lost(lost, 0.0015)},
        size=1.0,
    )


@pytest.fixture
def explanation():
    many = tuple(worth(f"layer{i}: weights") for i in range(SHOWN + 3))
    steps = tuple(f"layer{i}: weight bits 4 → 2" for i in range(9))
    return Explanation(
        goals=GOALS,
        members=(
            Member(key="a", name="whole", decisions=(), rest=None, total=worth("all", 0.0, 0.0)),
            Member(key="b", name="b1", decisions=many, rest=worth("3 others"), total=worth("all")),
        ),
        parts=(
            Importance(
                what="weights",
                share={"accuracy": -0.1, "onnx_bytes": 0.624},
                growth={"onnx_bytes": 2.5},
            ),
            Importance(
                what="channels",
                share={"accuracy": None, "onnx_bytes": 1.3},
                growth={"onnx_bytes": 1.4},
            ),
        ),
        decisions=tuple(
            replace(
                Importance(what="", share={"accuracy": 0.1, "onnx_bytes": 0.2}, growth={}),
                what=each.what,
                growth={"onnx_bytes": 1.1},
            )
            for each in many
        ),
        steps=(
            Step(
                first="whole",
                second="b1",
                changes=steps,
                values={"accuracy": (0.9, 0.885), "onnx_bytes": (1000.0, 800.0)},
            ),
        ),
        evaluations=41,
        is_trained=False,
    )


def rows_of(html, heading):
    """Texts of the cells of the first table below a heading."""
    part = html.split(heading)[1].split("<table>")[1].split("</table>")[0]
    rows = [row.split("<td>")[1:] for row in part.split("<tr")]
    return [[_plain(cell) for cell in row] for row in rows if row]


def _plain(html):
    text, is_tag = "", False
    for letter in html:
        is_tag = letter == "<" or (is_tag and letter != ">")
        text += "" if is_tag or letter == ">" else letter
    return text.strip()


def test_shares_have_bars_between_nothing_and_all(explanation):
    html = why_section(explanation)
    first, second = rows_of(html, "What mattered")
    assert first == ["weights", "-10%", "62% 2.50×"]
    assert second == ["channels", "–", "130% 1.40×"]
    assert [f'style="width:{px}px"' in html for px in (0, 56, 90)] == [True] * 3
    assert "learned from 41 evaluations" in html


def test_a_model_has_its_first_decisions_the_others_and_all(explanation):
    html = why_section(explanation)
    assert "whole</b>: nothing is decided otherwise" in html
    rows = rows_of(html, "b1: 11 decisions")
    assert [row[0] for row in rows] == [f"layer{i}: weights" for i in range(SHOWN)] + [
        "3 others",
        "all",
    ]
    assert rows[0] == ["layer0: weights", "weight bits 4", "+0.40 ± 0.15", "2.500 kB 1.25×"]


def test_what_is_no_gain_or_not_known_is_not_dressed_up(explanation):
    nothing, unknown = worth("a", bought=0.0), replace(worth("b"), bought={}, growth={})
    member = replace(explanation.members[1], decisions=(nothing, unknown), rest=None)
    rows = rows_of(why_section(replace(explanation, members=(member,))), "b1: 2 decisions")
    assert [row[3] for row in rows] == ["0", "–", "2.500 kB 1.25×"]


def test_neighbours_are_told_apart_by_changes_and_goals(explanation):
    ((first, second, changes, accuracy, size),) = rows_of(why_section(explanation), "1 steps")
    assert (first, second, accuracy, size) == ("whole", "b1", "-1.50", "-20.0%")
    assert changes.startswith("layer0: weight bits 4 → 2")
    assert changes.endswith("and 3 more")


def test_training_is_said_to_be_left_out(explanation):
    said = "were trained afterwards"
    assert said not in why_section(explanation)
    assert said in why_section(replace(explanation, is_trained=True))


def test_nothing_to_explain_has_no_section(explanation, picture):
    assert why_section(None) == ""
    assert why_section(replace(explanation, members=())) == ""
    summary = RunSummary(model="m", device="d", picture=picture, duration_s=1.0)
    heading = "<h2>Why these models</h2>"
    assert heading not in report_page(summary)
    assert heading in report_page(replace(summary, explanation=explanation))


def test_names_of_models_and_layers_are_escaped(explanation):
    evil = replace(worth(EVIL), choice=EVIL)
    hostile = replace(
        explanation,
        members=(
            Member(key="c", name=EVIL, decisions=(evil,), rest=evil, total=evil),
            Member(key="d", name=EVIL, decisions=(), rest=None, total=evil),
        ),
        parts=(replace(explanation.parts[0], what=EVIL),),
        decisions=(replace(explanation.decisions[0], what=EVIL),),
        steps=(replace(explanation.steps[0], first=EVIL, second=EVIL, changes=(EVIL,)),),
    )
    html = why_section(hostile)
    assert "<img" not in html
    assert html.count("&lt;img src=x&gt;") == 14
