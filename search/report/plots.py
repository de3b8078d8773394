"""Interactive pictures of a search: front, parallel coordinates and progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go

from paredown.search.report import style
from paredown.search.report.hovers import hovers
from paredown.search.report.measured_trace import measured_traces
from paredown.search.report.style import Axis, Picture
from paredown.search.study.display import Summary, summarize, title_of
from paredown.search.study.evaluation import Evaluation
from paredown.spaces.system.foreign_text import as_html

_SUMMARY_TITLES = (
    "weight bits",
    "zeros (%)",
    "rank kept (%)",
    "scales by group (%)",
    "8-bit activations (%)",
    "width kept (%)",
    (_COUNT := "blocks dropped"),
)


_LOOKS = {
    "dominated": {"color": style.DOMINATED, "size": 6, "opacity": 0.55},
    "front": {"color": style.FRONT, "size": 9, "line": {"color": "white", "width": 1}},
    "reference": {"color": style.REFERENCE, "size": 11, "symbol": "diamond"},
}
"""Marks of each group of models."""


def front_panels(picture: Picture, places: Mapping[str, str] | None = None) -> list[go.Figure]:
    """A figure per pair of goals; front and references stand out, the dominated are faint.

    Args:
        places: By key what a click on a member of the front opens.
    """
    texts = hovers(picture)
    return [
        _panel(picture, style.axis_of(picture, across), style.axis_of(picture, up), texts, places)
        for across, up in style.panels(picture.goals)
    ]


def _panel(
    picture: Picture,
    across: Axis,
    up: Axis,
    texts: Mapping[int, str],
    places: Mapping[str, str] | None,
) -> go.Figure:
    figure = go.Figure()
    xs, ys = style.staircase(picture.front.members, across, up)
    line = {"color": style.FRONT_LINE, "width": 2}
    figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip")
    groups = {
        "dominated": picture.dominated,
        "front": picture.front.members,
        "reference": picture.references,
    }
    for name, members in groups.items():
        opened = [(places or {}).get(e.key) for e in members]
        marks = figure.add_scatter(
            x=across.values(members),
            y=up.values(members),
            mode="markers",
            marker=_LOOKS[name],
            name=name,
            customdata=opened,
            hovertext=[
                texts[e.number] + ("<br><i>a click opens its bundle</i>" if place else "")
                for e, place in zip(members, opened, strict=True)
            ],
            hoverinfo="text",
        )
        if name == "reference":
            marks.data[-1].update(_named(picture, across, up))
    for trace in measured_traces(picture, across, up):
        figure.add_trace(trace)
    dress(figure, height=400)
    figure.update_layout(hovermode="closest", showlegend=False, margin={"l": 64, "r": 16})
    _set_axis(figure.update_xaxes, across)
    _set_axis(figure.update_yaxes, up)
    return figure


def _named(picture: Picture, across: Axis, up: Axis) -> Mapping[str, object]:
    """The labels of the references beside their marks."""
    corners = style.name_corners(picture.references, across, up, picture.front.members)
    return {
        "mode": "markers+text",
        "text": [as_html(each.label) for each in picture.references],
        "textposition": [f"{rise} {side}" for side, rise in corners],
        "textfont": {"color": style.REFERENCE, "size": 12},
        # A name that passes the edge of the panel is still read.
        "cliponaxis": False,
    }


def _set_axis(update: Callable[..., object], axis: Axis) -> None:
    low, high = axis.low, axis.high
    span = [math.log10(low), math.log10(high)] if axis.is_log else [low, high]
    kind: dict[str, object] = {"type": "log" if axis.is_log else "linear"}
    if axis.is_log:
        kind |= {"tickvals": axis.ticks, "ticktext": [f"{tick:g}" for tick in axis.ticks]}
    update(title_text=axis.title, range=span, **kind)


def parallel_figure(picture: Picture) -> go.Figure:
    """Goals and knobs as parallel axes; the front coloured by the first goal, the rest grey.

    References are left out: 32 bits everywhere would squeeze all others into a corner.
    """
    on_front = {member.number for member in picture.front.members}
    # Later lines lie on top.
    searched = [e for e in picture.shown if e.kind == "search"]
    lines = sorted(searched, key=lambda e: e.number in on_front)
    first = style.axis_of(picture, picture.goals[0])
    best = first.values([e for e in lines if e.number in on_front]) or [0.0]
    low, high = min(best), max(best)
    step = (high - low) or 1.0
    # Below the lowest of the front lies the grey of everything else.
    grey = low - 0.06 * step
    colours = [first.values([e])[0] if e.number in on_front else grey for e in lines]
    figure = go.Figure(
        go.Parcoords(
            dimensions=_dimensions(picture, lines),
            line={
                "color": colours,
                "cmin": grey,
                "cmax": high,
                "colorscale": [
                    [0, "#dfe4ea"],
                    [0.03, "#dfe4ea"],
                    [0.031, "#de7a3a"],
                    [0.5, "#7d6aa8"],
                    [1, style.FRONT],
                ],
                "showscale": True,
                "colorbar": {
                    "title": as_html(title_of(first.goal.metric, first.unit)),
                    "thickness": 12,
                },
            },
            labelfont={"size": 13, "color": style.INK},
            tickfont={"size": 11, "color": style.QUIET},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        )
    )
    dress(figure, height=480)
    figure.update_layout(margin={"l": 70, "r": 20, "t": 60, "b": 30})
    return figure


def _dimensions(picture: Picture, lines: Sequence[Evaluation]) -> list[dict[str, object]]:
    dimensions: list[dict[str, object]] = []
    for goal in picture.goals:
        axis = style.axis_of(picture, goal)
        label = title_of(goal.metric, axis.unit)
        dimensions.append({"label": as_html(label), "values": axis.values(lines)})
    summaries = [_summary_values(summarize(e.candidate, picture.outline)) for e in lines]
    # A search that was interrupted at once has no lines, and still a page.
    columns = list(zip(*summaries, strict=True)) or [()] * len(_SUMMARY_TITLES)
    for title, column in zip(_SUMMARY_TITLES, columns, strict=True):
        # A knob that nothing turned would be a bare line.
        if len(set(column)) > 1:
            marks = {"tickvals": sorted(set(column))} if title == _COUNT else {}
            dimensions.append({"label": title, "values": list(column), **marks})
    return dimensions


def _summary_values(summary: Summary) -> tuple[float, ...]:
    """The values of `_SUMMARY_TITLES`."""
    return (
        summary.weight_bits,
        100 * summary.sparsity,
        100 * summary.rank_fraction,
        100 * summary.grouped_share,
        100 * summary.int8_share,
        100 * summary.width_share,
        summary.dropped,
    )


def progress_figure(picture: Picture) -> go.Figure:
    """Hypervolume after each evaluation, with failures marked."""
    numbers = [e.number for e in picture.evaluations]
    figure = go.Figure()
    figure.add_scatter(
        x=numbers,
        y=list(picture.hypervolumes),
        mode="lines",
        line={"color": style.FRONT, "width": 2.5, "shape": "hv"},
        fill="tozeroy",
        fillcolor="rgba(31,78,156,0.08)",
        name="hypervolume",
        hovertemplate="evaluation %{x}: %{y:.4g}<extra></extra>",
    )
    failed = [(e, e.failure.text) for e in picture.evaluations if e.failure is not None]
    if failed:
        figure.add_scatter(
            x=[e.number for e, _ in failed],
            y=[0.0] * len(failed),
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": style.FAILED},
            name="failed",
            cliponaxis=False,
            hovertext=[f"{as_html(e.key)}<br>{as_html(text[:120])}" for e, text in failed],
            hoverinfo="text",
        )
    dress(figure, height=360)
    figure.update_xaxes(title_text="evaluation")
    figure.update_yaxes(title_text="hypervolume", rangemode="tozero")
    return figure


def dress(figure: go.Figure, height: int) -> None:
    """Give `figure` the looks that all share: quiet axes, no ground, hover texts in ink."""
    figure.update_layout(
        font={"family": style.FONT, "color": style.INK, "size": 13},
        # The text under the mouse may reach over the next figure.
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=height,
        margin={"l": 64, "r": 24, "t": 34, "b": 56},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        modebar={"bgcolor": "white", "color": style.DOMINATED, "activecolor": style.QUIET},
        hoverlabel={
            "bgcolor": "white",
            "bordercolor": style.QUIET,
            "align": "left",
            # Without one plotly takes what contrasts with the border, not with the ground.
            "font": {"family": style.FONT, "color": style.INK, "size": 12},
        },
    )
    axes = {
        "gridcolor": style.GRID,
        "zeroline": False,
        "linecolor": style.QUIET,
        "ticks": "outside",
        # Long names of layers and models make room for themselves.
        "automargin": True,
        "title_standoff": 8,
    }
    figure.update_xaxes(axes)
    figure.update_yaxes(axes)
