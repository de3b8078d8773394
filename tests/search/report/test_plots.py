"""Pictures: what is in them, and that files come out whole."""

import pytest
from matplotlib.colors import to_rgb

from paredown.search.report.decisions import decision_figure
from paredown.search.report.pictures import decision_png, front_png
from paredown.search.report.plots import front_panels, parallel_figure, progress_figure
from paredown.search.report.style import Picture
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import Front


def test_every_evaluation_is_drawn_once_a_panel(picture):
    panels = front_panels(picture)
    assert len(panels) == 3
    alive = [e for e in picture.evaluations if not e.is_failed]
    on_front_and_reference = [e for e in picture.front.members if e.kind == "reference"]
    for panel in panels:
        points = [trace for trace in panel.data if "markers" in trace.mode]
        assert sum(len(t.x) for t in points) == len(alive) + len(on_front_and_reference)


def test_only_members_with_a_place_open_it_and_say_so(picture):
    first, *others = picture.front.members
    panel = front_panels(picture, {first.key: f"bundles/{first.key}/"})[0]
    front = next(t for t in panel.data if t.name == "front")
    assert list(front.customdata) == [f"bundles/{first.key}/"] + [None] * len(others)
    assert ["click" in text for text in front.hovertext] == [True] + [False] * len(others)


@pytest.mark.parametrize("draw", [parallel_figure, decision_figure, progress_figure])
def test_hover_texts_contrast_with_their_ground(picture, draw):
    """At least 4.5 to 1, as WCAG 2.2 asks of text; the border is no ground."""
    for figure in (draw(picture), *front_panels(picture)):
        label = figure.layout.hoverlabel
        assert contrast(label.font.color, label.bgcolor) >= 4.5
        own = [t.hoverlabel.bgcolor for t in figure.data if "hoverlabel" in t]
        assert set(own) <= {None}, "no trace has colours of its own"


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_an_empty_front_and_two_goals_can_be_drawn(make_evaluations, picture, tmp_path):
    goals = (
        Goal(metric="accuracy", direction="maximize", at_least=2.0),
        Goal(metric="onnx_bytes", direction="minimize"),
    )
    bare = Picture(evaluations=make_evaluations(5), front=Front(goals), outline=picture.outline)
    for draw in (front_panels, parallel_figure, decision_figure, progress_figure):
        draw(bare)
    front_png(bare, tmp_path / "a.png")
    decision_png(bare, tmp_path / "b.png")
