"""The same pictures of a search as PNG files, for READMEs and places without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import NullLocator

from paredown.search.report import style
from paredown.search.report.style import Axis, Picture
from paredown.search.study.display import name_of, show
from paredown.spaces.system.foreign_text import shown

_DPI = 150


def front_png(picture: Picture, path: Path) -> None:
    """One panel per pair of goals, three to a row."""
    pairs = style.panels(picture.goals)
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    # One panel alone needs the width for the title above it.
    figure = Figure(figsize=(max(5.2 * columns, 7.5), 4.6 * rows), layout="constrained")
    for index, (across, up) in enumerate(pairs):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_panel(axes, picture, style.axis_of(picture, across), style.axis_of(picture, up))
    figure.axes[0].legend(loc="lower right", frameon=False, fontsize=9)
    _save(figure, f"{picture.name or 'Pareto front'}: {picture.headline}", path)


def decision_png(picture: Picture, path: Path) -> None:
    """Weight bits of every layer (rows, largest first) in every model of the front (columns)."""
    members = picture.ordered
    layers = style.layers_by_size(picture)
    widths = list(style.BITS_COLOURS)
    codes = np.ma.masked_invalid(style.bits_codes(picture))
    size = (3.2 + 0.34 * len(members), 2.2 + 0.27 * len(layers))
    figure = Figure(figsize=(max(size[0], 7.5), size[1]), layout="constrained")
    axes = figure.add_subplot()
    palette = ListedColormap(list(style.BITS_COLOURS.values()))
    norm = BoundaryNorm([w - 0.5 for w in range(len(widths) + 1)], len(widths))
    image = axes.pcolormesh(codes, cmap=palette, norm=norm, edgecolors="white", linewidth=1.5)
    _write_bits(axes, codes, [str(width) for width in widths])
    axes.invert_yaxis()
    axes.set_yticks([i + 0.5 for i in range(len(layers))], list(map(shown, layers)), fontsize=8)
    goal = picture.goals[0].metric
    names = [f"{shown(name_of(m))}  {show(goal, m.metrics[goal])}" for m in members]
    axes.set_xticks([i + 0.5 for i in range(len(members))], names, fontsize=7, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, ticks=range(len(widths)), shrink=0.6, pad=0.02)
    bar.ax.set_yticklabels([str(width) for width in widths])
    bar.set_label("weight bits")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, which="both")
    _save(figure, "Decisions on the front: weight bits per layer, largest first", path)


def _write_bits(axes: Axes, codes: np.ndarray, names: Sequence[str]) -> None:
    """Each cell's bits, and a dash where a model has no such layer."""
    for (row, column), code in np.ma.ndenumerate(codes, compressed=False):
        is_absent = np.ma.is_masked(code)
        # The widths before the middle of the scale are the dark ones.
        colour = style.QUIET if is_absent else style.INK if code > 1 else "white"
        text = "–" if is_absent else names[int(code)]
        place = (column + 0.5, row + 0.5)
        axes.text(*place, text, color=colour, fontsize=7, ha="center", va="center")


def progress_png(picture: Picture, path: Path) -> None:
    """Hypervolume after each evaluation."""
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    numbers = [e.number for e in picture.evaluations]
    axes.step(numbers, picture.hypervolumes, where="post", color=style.FRONT, linewidth=2)
    axes.fill_between(
        numbers, picture.hypervolumes, step="post", color=style.FRONT, alpha=0.08, linewidth=0
    )
    failed = [e.number for e in picture.evaluations if e.is_failed]
    axes.plot(failed, [0.0] * len(failed), "x", color=style.FAILED, label="failed")
    if failed:
        axes.legend(frameon=False, loc="lower right")
    axes.set_xlabel("evaluation")
    axes.set_ylabel("hypervolume")
    _dress(axes)
    _save(figure, f"Progress: {picture.headline}", path)


def _draw_panel(axes: Axes, picture: Picture, across: Axis, up: Axis) -> None:
    members = picture.front.members
    axes.plot(
        *style.staircase(members, across, up), color=style.FRONT_LINE, linewidth=1.5, zorder=2
    )
    groups = (
        ("dominated", picture.dominated, style.DOMINATED, "o", 16, 0.45),
        ("front", members, style.FRONT, "o", 38, 1.0),
        ("reference", picture.references, style.REFERENCE, "D", 44, 1.0),
    )
    for order, (label, group, colour, marker, size, alpha) in enumerate(groups):
        axes.scatter(
            across.values(group),
            up.values(group),
            s=size,
            c=colour,
            marker=marker,
            alpha=alpha,
            label=label,
            edgecolors="white",
            linewidths=0.6,
            zorder=3 + order,
        )
    _name_references(axes, picture, across, up)
    _set_scale(axes, across, up)
    _dress(axes)


def _name_references(axes: Axes, picture: Picture, across: Axis, up: Axis) -> None:
    corners = style.name_corners(picture.references, across, up, picture.front.members)
    for evaluation, (side, rise) in zip(picture.references, corners, strict=True):
        x, y = across.values([evaluation])[0], up.values([evaluation])[0]
        if not (across.low <= x <= across.high and up.low <= y <= up.high):
            continue
        axes.annotate(
            shown(evaluation.label),
            (x, y),
            xytext=(-7 if side == "left" else 7, 9 if rise == "top" else -9),
            textcoords="offset points",
            ha="right" if side == "left" else "left",
            va="center",
            fontsize=8.5,
            color=style.REFERENCE,
            zorder=7,
        )


def _set_scale(axes: Axes, across: Axis, up: Axis) -> None:
    axes.set_xlabel(across.title)
    axes.set_ylabel(up.title)
    axes.set_xlim(across.low, across.high)
    axes.set_ylim(up.low, up.high)
    for name, axis in (("x", across), ("y", up)):
        if axis.is_log:
            axes.set(**{f"{name}scale": "log"})
            marks = axes.xaxis if name == "x" else axes.yaxis
            # Plain numbers (100, 200, 500) instead of powers.
            marks.set_ticks(axis.ticks, labels=[f"{tick:g}" for tick in axis.ticks])
            marks.set_minor_locator(NullLocator())


def _dress(axes: Axes) -> None:
    axes.grid(color=style.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(style.QUIET)
    axes.tick_params(colors=style.QUIET, labelsize=9)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(style.INK)


def _save(figure: Figure, title: str, path: Path) -> None:
    figure.suptitle(
        shown(title), x=0.01, ha="left", fontsize=12, color=style.INK, fontweight="bold"
    )
    # Names from outside may hold dollar signs, which would be read as mathematics.
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # Its own canvas: pyplot's global state is neither needed nor touched.
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI, facecolor="white")
