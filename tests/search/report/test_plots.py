"""Pictures: what is in them, and that files come out whole."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from plotly.graph_objects import Scatter

from paredown.search.report import style
from paredown.search.report.decisions import decision_figure, structure_rows
from paredown.search.report.pictures import decision_png, front_png, progress_png
from paredown.search.report.plots import front_panels, parallel_figure, progress_figure
from paredown.search.report.style import Picture, axis_of, name_corners, panels, staircase
from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import Front, front_of, hypervolume, reference_point
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros


@pytest.fixture
def picture(goals, make_evaluations, layer_weights):
    evaluations = make_evaluations(80)
    worst = reference_point(goals, evaluations[0], evaluations[0])
    return Picture(
        evaluations=evaluations,
        front=front_of(evaluations, goals),
        outline=Outline(
            layer_weights=layer_weights,
            segments=("stem", "layer3.1"),
            widths={"layer2.0.conv1": 32},
            blocks={"layer1.1": frozenset({"layer1.1.conv1", "layer1.1.conv2"})},
        ),
        hypervolumes=tuple(
            hypervolume(front_of(evaluations[:n], goals), worst)
            for n in range(1, len(evaluations) + 1)
        ),
        name="resnet20",
    )


def test_every_pair_of_goals_has_a_panel_with_the_cost_across(goals):
    names = [(across.metric, up.metric) for across, up in panels(goals)]
    assert names == [
        ("latency_s", "accuracy"),
        ("onnx_bytes", "accuracy"),
        ("onnx_bytes", "latency_s"),
    ]


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


def test_no_two_widths_look_alike_nor_like_an_empty_cell():
    """Colours that differ by less than 10 (CIE76 in CIELAB is about 2.3 for just noticeable)."""
    colours = [*style.BITS_COLOURS.values(), "white"]
    for one, other in itertools.combinations(colours, 2):
        assert math.dist(lab(one), lab(other)) > 10, (one, other)


def lab(colour):
    """CIELAB for D65, https://www.w3.org/TR/css-color-4/#color-conversion-code."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1.0, 1.089])
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_the_staircase_bounds_what_the_front_dominates(picture, goals):
    across, up = axis_of(picture, goals[1]), axis_of(picture, goals[0])
    xs, ys = staircase(picture.front.members, across, up)
    assert xs == sorted(xs)
    assert ys == sorted(ys)
    for x, y in zip(
        across.values(picture.front.members), up.values(picture.front.members), strict=True
    ):
        height = max(b for a, b in zip(xs, ys, strict=True) if a <= x)
        assert y <= height


def test_axes_are_logarithmic_only_for_costs_over_a_decade(picture, goals):
    assert axis_of(picture, goals[2]).is_log
    assert not axis_of(picture, goals[1]).is_log
    assert not axis_of(picture, goals[0]).is_log
    assert axis_of(picture, goals[2]).ticks == [50.0, 100.0, 200.0, 500.0]


def test_the_decision_chart_has_a_cell_for_each_layer_and_model(picture, layer_weights):
    figure = decision_figure(picture)
    cells = np.array(figure.data[0].z)
    assert cells.shape == (len(layer_weights), len(picture.front.members))
    assert figure.data[0].y[0] in [n for n, count in layer_weights.items() if count == 36864]
    # A layer that went with its block has none.
    without = [bool(m.candidate.dropped) for m in picture.ordered]
    assert any(without)
    row = list(figure.data[0].y).index("layer1.1.conv1")
    assert [cell is None for cell in figure.data[0].z[row]] == without


def test_a_cell_tells_how_zeros_lie_and_which_form_a_lower_rank_takes(picture):
    zeros, rank = Zeros(0.5, "block"), Rank(0.4, "tucker", 0.6)
    choice = LayerChoice(weight_bits=4, zeros=zeros, rank=rank)
    member = replace(picture.front.members[0], candidate=Candidate.of(layers={"conv1": choice}))
    bits = decision_figure(replace(picture, front=front_of([member], picture.goals))).data[0]
    said = {name: row[0] for name, row in zip(bits.y, bits.customdata, strict=True)}
    assert said.pop("conv1") == "4 bit, 50% block zeros, tucker rank 40% × 60%"
    assert set(said.values()) == {"32 bit, no zeros, whole"}
    written = {name: row[0] for name, row in zip(bits.y, bits.text, strict=True)}
    assert written.pop("conv1") == 4
    assert set(written.values()) == {32}


def test_a_cell_of_a_dropped_layer_says_that_it_is_gone(picture):
    figure = decision_figure(picture)
    bits = figure.data[0]
    absent = next(t for t in figure.data if isinstance(t, Scatter))
    dropped = [m for m in picture.ordered if m.candidate.dropped]
    assert dropped
    # Both layers of the block, in every model without it.
    assert len(absent.x) == 2 * len(dropped)
    assert set(absent.y) == {"layer1.1.conv1", "layer1.1.conv2"}
    assert all("gone with block layer1.1" in text for text in absent.hovertext)
    assert bits.hoverongaps is False
    gaps = zip(np.ravel(bits.z), np.ravel(bits.text), strict=True)
    assert {text for code, text in gaps if code is None} == {""}


def test_the_decision_chart_of_two_architectures_leaves_gaps_where_one_has_no_layer(
    picture, layer_weights
):
    small = Outline(layer_weights={"conv1": 432, "extra": 9}, widths={"other": 8})
    outline = Outline(
        layer_weights={**layer_weights, "extra": 9},
        widths={"layer2.0.conv1": 32, "other": 8},
        architectures={"": picture.outline, "small": small},
    )
    first, *others = picture.front.members
    changed = replace(first, candidate=Candidate(architecture="small"))
    both = replace(picture, front=front_of([*others, changed], picture.goals), outline=outline)
    figure = decision_figure(both)
    names = list(figure.data[0].y)
    assert set(names) == {*layer_weights, "extra"}
    column = [m.candidate.architecture for m in both.ordered].index("small")
    cells = {name: row[column] for name, row in zip(names, figure.data[0].z, strict=True)}
    assert {name for name, cell in cells.items() if cell is not None} == {"conv1", "extra"}
    assert all(row[column] == 1 for row in structure_rows(both).values())
    alone = front_of([changed], picture.goals)
    figure = decision_figure(replace(picture, front=alone, outline=outline))
    assert set(figure.data[0].y) == {"conv1", "extra"}


def test_structure_that_no_model_changes_is_not_drawn(picture, goals, make_evaluations):
    assert "block layer1.1" in structure_rows(picture)
    plain = Picture(
        evaluations=make_evaluations(1)[:1],
        front=front_of(make_evaluations(1)[:1], goals),
        outline=picture.outline,
    )
    assert structure_rows(plain) == {}
    assert len(decision_figure(plain).data) == 1


@pytest.mark.parametrize("draw", [front_png, decision_png, progress_png])
def test_png_files_hold_a_picture(picture, tmp_path, draw):
    draw(picture, tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert min(pixels.shape[:2]) > 400
    assert pixels[..., :3].std() > 0.02


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


def test_names_of_references_do_not_overlap(picture, goals):
    up, across = axis_of(picture, goals[0]), axis_of(picture, goals[1])

    def named(label, x, y):
        metrics = {
            goals[0].metric: up.low + y * (up.high - up.low),
            goals[1].metric: across.low + x * (across.high - across.low),
        }
        metrics = {
            k: v / a.unit.factor for (k, v), a in zip(metrics.items(), (up, across), strict=True)
        }
        return replace(picture.references[0], label=label, metrics=metrics)

    here = [named("uniform 4-bit", 0.9, 0.9), named("uncompressed", 0.9, 0.9)]
    assert len(set(name_corners(here, across, up))) == 2
    apart = [named("uniform 4-bit", 0.9, 0.9), named("uncompressed", 0.9, 0.2)]
    assert name_corners(apart, across, up) == [("left", "top")] * 2
    alone = [named("uniform 8-bit", 0.1, 0.5)]
    assert name_corners(alone, across, up) == [("right", "bottom")]
    # Nor does a name lie on a point of the front.
    assert name_corners(alone, across, up, [named("", 0.2, 0.465)]) == [("right", "top")]


def test_names_of_neighbours_do_not_overlap_where_no_corner_is_free(picture, goals):
    """Two points at one height near the right edge: each name would lie beside the other's point."""
    up, across = axis_of(picture, goals[0]), axis_of(picture, goals[1])
    metrics = [
        {goals[0].metric: up.high / up.unit.factor, goals[1].metric: value / across.unit.factor}
        for value in (across.high, across.high - 0.15 * (across.high - across.low))
    ]
    near = [
        replace(picture.references[0], label=label, metrics=each)
        for label, each in zip(("uncompressed", "uniform 8-bit"), metrics, strict=True)
    ]
    first, second = name_corners(near, across, up)
    assert first[0] == second[0] == "left"
    assert first[1] != second[1]
