"""Names, messages and paths from outside, through every command and every page."""

import html
import json
import re
from dataclasses import replace

import pytest

from paredown.compressors.bundle.writing import _figures
from paredown.search.report.decisions import decision_figure
from paredown.search.report.page import RunSummary, write_report
from paredown.search.report.pictures import decision_png
from paredown.search.report.plots import front_panels, progress_figure
from paredown.search.report.style import Picture
from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.pareto import Front, front_of
from paredown.search.tracking.mlflow_text import child_note, parent_note
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

STEERING = "\x1b]0;title\x07\x1b[2J"
MARKUP = "[/data/x.bin] [bold]b[/bold]"
TAGS = "<script>alert(1)</script><b>x</b>"


@pytest.fixture
def hostile(make_evaluations, goals):
    """Evaluations of networks whose layers, keys, labels and errors come from somebody hostile."""
    name = f"{TAGS}{MARKUP}{STEERING}$\\frac$"
    choice = LayerChoice(weight_bits=4)
    candidate = Candidate.of(architecture=name, layers={name: choice})
    good, other, failed = make_evaluations(3)
    evaluations = (
        replace(good, label=name, candidate=candidate),
        replace(other, candidate=candidate),
        replace(
            failed,
            key=name,
            label="",
            metrics={},
            failure=Failure.of_text(FailureKind.RAISED, f"E: {name}\n```\n# out"),
        ),
    )
    outline = Outline(layer_weights={name: 10}, widths={}, blocks={})
    return Picture(
        evaluations=evaluations,
        front=front_of(evaluations, goals),
        outline=outline,
        hypervolumes=(0.1, 0.2, 0.2),
        name=name,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("front", "PATH"),
        ("front", "PATH", "--json"),
        ("search", "PATH"),
        ("inspect", "PATH"),
        ("verify", "PATH"),
        ("compare", "PATH", "PATH"),
        ("ui", "PATH"),
        ("export", "PATH", "--front"),
        ("runs", "PATH"),
        ("devices", "PATH"),
        ("calibrate", "PATH"),
        ("calibrate", "--families", "PATH"),
        ("init", "PATH"),
        ("cache", "PATH"),
        ("PATH",),
    ],
    ids=" ".join,
)
def test_a_path_from_outside_is_printed_as_it_is_and_steers_nothing(paredown, tmp_path, arguments):
    path = str(tmp_path / f"{MARKUP}\x1b[31m".replace("/", "|"))
    done = paredown(*(path if each == "PATH" else each for each in arguments))
    assert done.exit_code == 2
    assert "\x1b" not in done.output
    assert "[bold]b[|bold]" in "".join(done.output.split("\n"))
    assert "Traceback" not in done.output


def test_a_front_of_hostile_names_is_printed_and_not_obeyed(paredown, make_run):
    def change(evaluation):
        label = f"{MARKUP}{STEERING}" if evaluation.label else ""
        return replace(evaluation, label=label)

    done = paredown("front", make_run(change=change))
    assert done.exit_code == 0
    assert MARKUP in done.stdout
    assert "\x1b" not in done.stdout


def test_pages_hold_foreign_text_as_text(hostile, tmp_path):
    summary = RunSummary(
        model=TAGS, device=TAGS, picture=hostile, duration_s=1.0, notes=(TAGS + STEERING,)
    )
    text = write_report(tmp_path, summary, {}).read_text()
    assert "<script>alert" not in text
    assert "<b>x</b>" not in text
    assert "\x1b" not in text
    assert html.escape(TAGS) in text


@pytest.mark.parametrize(
    "figure",
    [lambda picture: front_panels(picture)[0], decision_figure, progress_figure],
    ids=["front", "decisions", "progress"],
)
def test_labels_of_figures_hold_foreign_text_as_text(hostile, figure):
    # Plotly reads <b>, <a href> and others in titles, ticks and hover texts alike.
    texts = list(_texts(json.loads(figure(hostile).to_json())))
    ours = re.compile(r"</?b>|</?i>|<br>|<extra></extra>")
    assert any(html.escape(TAGS) in text for text in texts)
    assert [t for t in texts if "<" in ours.sub("", t) or "<b>x" in t or "\x1b" in t] == []


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def test_dollar_signs_in_names_are_no_mathematics(hostile, tmp_path):
    # As mathematics this is refused, with an exception.
    name = "a$\\frac$"
    member = replace(hostile.evaluations[0], label=name)
    outline = Outline(layer_weights={name: 10}, widths={})
    front = replace(hostile.front, members=(member,))
    picture = replace(hostile, evaluations=(member,), front=front, outline=outline, name=name)
    decision_png(picture, tmp_path / "decisions.png")
    assert (tmp_path / "decisions.png").stat().st_size > 1000


def test_descriptions_in_mlflow_hold_foreign_text_as_text(hostile, goals):
    first, _, failed = hostile.evaluations
    notes = (
        child_note(first, hostile.outline, "id"),
        child_note(failed, hostile.outline, "id"),
        parent_note(Front(goals, members=(first,)), hostile.evaluations, {}, "1", (TAGS,)),
    )
    for note in notes:
        blocks = re.sub(r"(?ms)^(`{3,})\n.*?\n\1$", "", note)
        outside = re.sub(r"(`+).*?\1", "", blocks)
        assert "<" not in outside
        assert not re.search(r"(?<!\\)\[/?bold", outside)
        assert "\x1b" not in note
        assert "# out" not in outside


def test_keys_and_values_of_a_card_keep_to_their_cells():
    rows = _figures({"a|b": "x\n# head", TAGS: {"`": 1.5}}).split("\n")[2:]
    assert rows == [
        "| a\\|b | x # head |",
        "| &lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;x&lt;/b&gt;.\\` | 1.5 |",
    ]
