"""The decision chart: what each model of the front does to each layer and to the structure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from paredown.search import style
from paredown.search.display import name_of, shares_text, show, summarize, title_of
from paredown.search.plots import dress
from paredown.search.style import Picture
from paredown.spaces.candidate import LayerChoice
from paredown.spaces.foreign_text import as_html


def decision_figure(picture: Picture) -> go.Figure:
    """What each model of the front does to each layer: weight bits, and below it the structure."""
    members = picture.ordered
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
    columns = [f"{as_html(name_of(m))}<br>{show(goal, m.metrics[goal])}" for m in members]
    _add_bits(figure, picture, layers, columns)
    if structure:
        names = [as_html(name) for name in structure]
        shares = list(structure.values())
        figure.add_heatmap(
            z=shares,
            x=columns,
            y=names,
            zmin=0,
            zmax=1,
            colorscale=[[0, "#22577a"], [1, "#eef2f6"]],
            showscale=False,
            text=[[f"{share:.0%}" for share in row] for row in shares],
            texttemplate="%{text}",
            textfont={"size": 10},
            hovertemplate="%{y}: %{text}<br>%{x}<extra></extra>",
            xgap=2,
            ygap=2,
            row=2,
            col=1,
        )
    dress(
        figure,
        "<b>Decisions on the front</b>   weight bits per layer, largest layer first; "
        f"best {as_html(title_of(goal))} on the left",
        height=190 + 26 * (len(layers) + len(structure)),
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    figure.update_xaxes(showgrid=False, tickangle=-60, tickfont={"size": 10})
    figure.update_layout(margin={"l": 190, "b": 110})
    return figure


def _add_bits(
    figure: go.Figure, picture: Picture, layers: Sequence[str], columns: Sequence[str]
) -> None:
    widths = list(style.BITS_COLOURS)
    members = picture.ordered
    choices = [[member.candidate.layer(layer) for member in members] for layer in layers]
    # One equal band of the colour scale for each bit width.
    bands = [
        [edge / len(widths), colour]
        for index, colour in enumerate(style.BITS_COLOURS.values())
        for edge in (index, index + 1)
    ]
    figure.add_heatmap(
        # Plotly leaves a gap where a value is missing.
        z=[[None if math.isnan(z) else z for z in row] for row in style.bits_codes(picture)],
        x=columns,
        y=[as_html(layer) for layer in layers],
        zmin=-0.5,
        zmax=len(widths) - 0.5,
        colorscale=bands,
        colorbar={
            "title": "weight bits",
            "tickvals": list(range(len(widths))),
            "ticktext": [str(width) for width in widths],
            "thickness": 12,
            "lenmode": "pixels",
            "len": 240,
            "y": 1,
            "yanchor": "top",
        },
        text=[[f"{_bits(c)}, {_zeros(c)}, {_rank(c)}" for c in row] for row in choices],
        hovertemplate="%{y}: %{text}<br>%{x}<extra></extra>",
        xgap=2,
        ygap=2,
        row=1,
        col=1,
    )


def structure_rows(picture: Picture) -> dict[str, list[float]]:
    """Rows of the decision chart below the bits, as shares kept; what no model changes is absent.

    For each model in `picture.ordered`: float segments, weights not sparse, rank kept, channels
    kept per group, and blocks (1 kept, 0 dropped).
    """
    candidates = [member.candidate for member in picture.ordered]
    summaries = [summarize(candidate, picture.outline) for candidate in candidates]
    rows = {
        "segments in float": [1 - s.int8_share for s in summaries],
        "weights kept": [1 - s.sparsity for s in summaries],
        "rank kept": [s.rank_fraction for s in summaries],
    }
    owns = [picture.outline.architectures.get(c.architecture, picture.outline) for c in candidates]
    for name in picture.outline.widths:
        # A network without this group keeps all that it has of it.
        fulls = [own.widths.get(name, 1) for own in owns]
        kept = [dict(c.widths).get(name, f) for c, f in zip(candidates, fulls, strict=True)]
        rows[f"width {name}"] = [k / f for k, f in zip(kept, fulls, strict=True)]
    for block in sorted({block for c in candidates for block in c.dropped}):
        rows[f"block {block}"] = [float(block not in c.dropped) for c in candidates]
    return {name: row for name, row in rows.items() if any(share < 0.995 for share in row)}


def _bits(choice: LayerChoice) -> str:
    """How wide a layer's weights are, and how many of them share a scale if not all of an output."""
    groups = f" in groups of {choice.group_size}" if choice.group_size else ""
    return f"{choice.weight_bits} bit{groups}"


def _zeros(choice: LayerChoice) -> str:
    """How many zeros a layer has, and how they lie."""
    return f"{choice.sparsity:.0%} {choice.pattern} zeros" if choice.sparsity else "no zeros"


def _rank(choice: LayerChoice) -> str:
    """The form of a layer of lower rank, and the share of each rank that is kept."""
    if choice.rank_fraction == 1:
        return "whole"
    shares = shares_text(choice.rank_fraction, choice.written_fraction)
    return f"{choice.decomposition} rank {shares}"
