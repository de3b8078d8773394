"""The decision chart: what each model of the front does to each layer and to the structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from paredown.search.report import style
from paredown.search.report.hovers import why_absent
from paredown.search.report.plots import dress
from paredown.search.report.style import Picture
from paredown.search.study.display import name_of, show, summarize
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.system.foreign_text import as_html

_ROW_PX, _MARGINS_PX = 26, 190
"""Height of a row, and of what stands above and below all rows."""
_ACTIVATIONS, _SPARSE, _BLOCK = "8-bit activations", "zeros", "block "
"""Names of rows; the last begins those of blocks."""


def decision_figure(picture: Picture) -> go.Figure:
    """What each model of the front does to each layer: weight bits, and below it the structure."""
    layers = style.layers_by_size(picture)
    structure = structure_rows(picture)
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.03,
        row_heights=[len(layers), len(structure) or 0.01],
    )
    goal = picture.goals[0].metric
    columns = [f"{show(goal, m.metrics[goal])}  {as_html(name_of(m))}" for m in picture.ordered]
    _add_bits(figure, picture, layers, columns)
    _add_absent(figure, picture, layers, columns)
    if structure:
        _add_structure(figure, structure, columns)
    dress(figure, height=_MARGINS_PX + _ROW_PX * (len(layers) + len(structure)))
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    figure.update_xaxes(showgrid=False, tickangle=-90, tickfont={"size": 11}, type="category")
    # Without a model there is no cell, and plotly would number the rows.
    figure.update_yaxes(type="category")
    return figure


def decision_width_px(picture: Picture) -> int:
    """Width below which the cells of the chart, or the names beside them, could not be read."""
    names = max((len(name) for name in style.layers_by_size(picture)), default=0)
    return 110 + 7 * names + 34 * len(picture.front.members)


def _add_bits(
    figure: go.Figure, picture: Picture, layers: Sequence[str], columns: Sequence[str]
) -> None:
    widths = list(style.BITS_COLOURS)
    choices = [[m.candidate.layer(layer) for m in picture.ordered] for layer in layers]
    # One equal band of the colour scale for each bit width.
    bands = [
        [edge / len(widths), colour]
        for index, colour in enumerate(style.BITS_COLOURS.values())
        for edge in (index, index + 1)
    ]
    codes = style.bits_codes(picture)
    figure.add_heatmap(
        # Plotly leaves a gap where a value is missing.
        z=[[None if math.isnan(code) else code for code in row] for row in codes],
        x=columns,
        y=[as_html(layer) for layer in layers],
        zmin=-0.5,
        zmax=len(widths) - 0.5,
        colorscale=bands,
        showscale=False,
        hoverongaps=False,
        # Not a text, which it would write into the gap.
        text=[["" if math.isnan(code) else widths[int(code)] for code in row] for row in codes],
        texttemplate="%{text}",
        textfont={"size": 10},
        customdata=[[f"{_bits(c)}, {_zeros(c)}, {_rank(c)}" for c in row] for row in choices],
        hovertemplate="%{y}: %{customdata}<br>%{x}<extra></extra>",
        xgap=2,
        ygap=2,
        row=1,
        col=1,
    )


def _add_absent(
    figure: go.Figure, picture: Picture, layers: Sequence[str], columns: Sequence[str]
) -> None:
    """A dash in the cell of each layer that a model has not, and why it has not."""
    cells = [
        (column, layer, why_absent(picture.outline, member.candidate, layer))
        for layer, row in zip(layers, style.bits_codes(picture), strict=True)
        for column, member, code in zip(columns, picture.ordered, row, strict=True)
        if math.isnan(code)
    ]
    if not cells:
        return
    figure.add_scatter(
        x=[column for column, _, _ in cells],
        y=[as_html(layer) for _, layer, _ in cells],
        mode="text",
        text=["–"] * len(cells),
        textfont={"color": style.QUIET},
        hovertext=[
            f"{as_html(layer)}: {as_html(why)}<br>{column}" for column, layer, why in cells
        ],
        hoverinfo="text",
        showlegend=False,
        row=1,
        col=1,
    )


def _add_structure(
    figure: go.Figure, structure: Mapping[str, Sequence[float]], columns: Sequence[str]
) -> None:
    shares = list(structure.values())
    figure.add_heatmap(
        z=shares,
        x=columns,
        y=[as_html(name) for name in structure],
        zmin=0,
        zmax=1,
        colorscale=[[0, "#22577a"], [1, "#eef2f6"]],
        showscale=False,
        text=[[_share_text(name, share) for share in row] for name, row in structure.items()],
        texttemplate="%{text}",
        textfont={"size": 10},
        hovertemplate="%{y}: %{text}<br>%{x}<extra></extra>",
        xgap=2,
        ygap=2,
        row=2,
        col=1,
    )


def _share_text(name: str, share: float) -> str:
    """A cell of the structure in words: what is kept of it, or for a block whether it is."""
    if name.startswith(_BLOCK):
        return "kept" if share else "gone"
    return f"{1 - share if name in (_ACTIVATIONS, _SPARSE) else share:.0%}"


def structure_rows(picture: Picture) -> dict[str, list[float]]:
    """Rows of the decision chart below the bits, as shares kept; what no model changes is absent.

    For each model in `picture.ordered`: segments whose activations stay float, weights that are no
    zeros, rank kept, channels kept per group, and blocks (1 kept, 0 dropped).
    """
    candidates = [member.candidate for member in picture.ordered]
    summaries = [summarize(candidate, picture.outline) for candidate in candidates]
    rows = {
        _ACTIVATIONS: [1 - s.int8_share for s in summaries],
        _SPARSE: [1 - s.sparsity for s in summaries],
        "rank kept": [s.rank_fraction for s in summaries],
    }
    owns = [picture.outline.architectures.get(c.architecture, picture.outline) for c in candidates]
    for name in picture.outline.widths:
        # A network without this group keeps all that it has of it.
        fulls = [own.widths.get(name, 1) for own in owns]
        kept = [dict(c.widths).get(name, f) for c, f in zip(candidates, fulls, strict=True)]
        rows[f"width {name}"] = [k / f for k, f in zip(kept, fulls, strict=True)]
    for block in sorted({block for c in candidates for block in c.dropped}):
        rows[f"{_BLOCK}{block}"] = [float(block not in c.dropped) for c in candidates]
    return {name: row for name, row in rows.items() if any(share < 0.995 for share in row)}


def _bits(choice: LayerChoice) -> str:
    """How wide a layer's weights are, and how many of them share a scale if not all of an output."""
    groups = f" in groups of {choice.group_size}" if choice.group_size else ""
    return f"{choice.weight_bits} bit{groups}"


def _zeros(choice: LayerChoice) -> str:
    """How many zeros a layer has, and how they lie."""
    return f"{choice.zeros.text} zeros" if choice.zeros.share else "no zeros"


def _rank(choice: LayerChoice) -> str:
    """The form of a layer of lower rank, and the share of each rank that is kept."""
    rank = choice.rank
    return "whole" if rank.share == 1 else f"{rank.form} rank {rank.shares_text}"
