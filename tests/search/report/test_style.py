"""What all pictures share: colours apart, panels, axes, and names that do not overlap."""

import itertools
import math
from dataclasses import replace

import numpy as np
from matplotlib.colors import to_rgb

from paredown.search.report import style
from paredown.search.report.style import axis_of, name_corners, panels, staircase


def test_every_pair_of_goals_has_a_panel_with_the_cost_across(goals):
    names = [(across.metric, up.metric) for across, up in panels(goals)]
    assert names == [
        ("latency_s", "accuracy"),
        ("onnx_bytes", "accuracy"),
        ("onnx_bytes", "latency_s"),
    ]


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
