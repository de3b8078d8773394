"""Interactive pictures of a search: front, parallel coordinates and progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from paredown.search import style
from paredown.search.display import summarize, title_of, unit_of
from paredown.search.evaluation import Evaluation
from paredown.search.style import Axis, Picture
from paredown.spaces.foreign_text import as_html

_SUMMARY_TITLES = (
    "weight bits",
    "sparsity",
    "rank kept",
    "scales by group",
    "8-bit segments",
    "width kept",
    "blocks dropped",
)


_PANEL_PX = 380
"""Narrowest panel whose axis titles and names of references keep clear of each other."""


def write_html(figure: go.Figure, path: Path) -> None:
    """One file that needs nothing else: works offline and in MLflow's sandboxed frame.

    In a narrow frame, as MLflow's is, panels side by side keep their width, and the frame scrolls.
    """
    columns = len({axis.domain for axis in figure.select_xaxes()})
    figure.write_html(
        path,
        include_plotlyjs=True,
        full_html=True,
        default_width=f"max(100%, {_PANEL_PX * columns}px)",
        config={"displaylogo": False},
    )


def fragment(figure: go.Figure, *, with_library: bool) -> str:
    """`figure` as HTML to put into a page; one figure of the page brings plotly.js along."""
    text: str = figure.to_html(
        full_html=False, include_plotlyjs=with_library, config={"displaylogo": False}
    )
    return text


def front_figure(picture: Picture) -> go.Figure:
    """One panel per pair of goals; front and references stand out, the dominated are faint."""
    pairs = style.panels(picture.goals)
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, horizontal_spacing=0.075, vertical_spacing=0.16
    )
    for index, (across, up) in enumerate(pairs):
        cell = (index // columns + 1, index % columns + 1)
        axes = style.axis_of(picture, across), style.axis_of(picture, up)
        _add_panel(figure, picture, *axes, cell, is_first=index == 0)
    title = f"<b>{as_html(picture.name or 'Pareto front')}</b>   {picture.headline}"
    dress(figure, title, height=470 * rows + 90)
    figure.update_layout(hovermode="closest")
    return figure


def _add_panel(
    figure: go.Figure,
    picture: Picture,
    across: Axis,
    up: Axis,
    cell: tuple[int, int],
    *,
    is_first: bool,
) -> None:
    place = {"row": cell[0], "col": cell[1]}
    xs, ys = style.staircase(picture.front.members, across, up)
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={"color": style.FRONT_LINE, "width": 2},
        hoverinfo="skip",
        showlegend=False,
        **place,
    )
    look = {
        "dominated": {"color": style.DOMINATED, "size": 6, "opacity": 0.45},
        "front": {"color": style.FRONT, "size": 9, "line": {"color": "white", "width": 1}},
        "reference": {"color": style.REFERENCE, "size": 11, "symbol": "diamond"},
    }
    groups = {
        "dominated": picture.dominated,
        "front": picture.front.members,
        "reference": picture.references,
    }
    for name, members in groups.items():
        is_named = name == "reference"
        figure.add_scatter(
            x=across.values(members),
            y=up.values(members),
            mode="markers+text" if is_named else "markers",
            text=[as_html(e.label) for e in members] if is_named else None,
            textposition=_text_positions(members, across, up) if is_named else None,
            textfont={"color": style.REFERENCE, "size": 12},
            marker=look[name],
            name=name,
            legendgroup=name,
            showlegend=is_first,
            hovertext=[style.hover(e, picture) for e in members],
            hoverinfo="text",
            **place,
        )
    _set_axis(figure.update_xaxes, across, place)
    _set_axis(figure.update_yaxes, up, place)


def _text_positions(members: Sequence[Evaluation], across: Axis, up: Axis) -> list[str]:
    return [f"{rise} {side}" for side, rise in style.name_corners(members, across, up)]


def _set_axis(update: Callable[..., object], axis: Axis, place: dict[str, int]) -> None:
    low, high = axis.low, axis.high
    span = [math.log10(low), math.log10(high)] if axis.is_log else [low, high]
    kind: dict[str, object] = {"type": "log" if axis.is_log else "linear"}
    if axis.is_log:
        kind |= {"tickvals": axis.ticks, "ticktext": [f"{tick:g}" for tick in axis.ticks]}
    update(title_text=as_html(axis.title), range=span, **kind, **place)


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
    dress(figure, "<b>Goals and knobs</b>   drag along an axis to filter; front coloured", 520)
    figure.update_layout(margin={"l": 80, "r": 60, "t": 120, "b": 40})
    return figure


def _dimensions(picture: Picture, lines: Sequence[Evaluation]) -> list[dict[str, object]]:
    dimensions: list[dict[str, object]] = []
    for goal in picture.goals:
        values = [e.metrics[goal.metric] for e in lines]
        unit = unit_of(goal.metric, max(values, default=1.0))
        dimensions.append(
            {
                "label": as_html(title_of(goal.metric, unit)),
                "values": [value * unit.factor for value in values],
            }
        )
    summaries = [astuple(summarize(e.candidate, picture.outline)) for e in lines]
    # A search that was interrupted at once has no lines, and still a page.
    columns = list(zip(*summaries, strict=True)) or [()] * len(_SUMMARY_TITLES)
    for title, column in zip(_SUMMARY_TITLES, columns, strict=True):
        # A knob that nothing turned would be a bare line.
        if len(set(column)) > 1:
            dimensions.append({"label": title, "values": list(column)})
    return dimensions


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
    failed = [e for e in picture.evaluations if e.is_failed]
    if failed:
        figure.add_scatter(
            x=[e.number for e in failed],
            y=[0.0] * len(failed),
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": style.FAILED},
            name="failed",
            cliponaxis=False,
            hovertext=[f"{as_html(e.key)}<br>{as_html((e.error or '')[:120])}" for e in failed],
            hoverinfo="text",
        )
    dress(figure, f"<b>Progress</b>   {picture.headline}", height=420)
    figure.update_xaxes(title_text="evaluation")
    figure.update_yaxes(title_text="hypervolume", rangemode="tozero")
    return figure


def dress(figure: go.Figure, title: str, height: int) -> None:
    """Give `figure` the looks that all share: title on the left, quiet axes, white ground."""
    figure.update_layout(
        title={"text": title, "x": 0.01, "xanchor": "left", "font": {"size": 17}},
        font={"family": style.FONT, "color": style.INK, "size": 13},
        paper_bgcolor="white",
        plot_bgcolor="white",
        height=height,
        margin={"l": 70, "r": 30, "t": 90, "b": 70},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": "white", "bordercolor": style.GRID, "align": "left"},
    )
    figure.update_xaxes(
        gridcolor=style.GRID, zeroline=False, linecolor=style.QUIET, ticks="outside"
    )
    figure.update_yaxes(
        gridcolor=style.GRID, zeroline=False, linecolor=style.QUIET, ticks="outside"
    )
