"""What was measured, drawn beside what was predicted: one ring for each model, tied to its point."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from paredown.search.report.style import Axis, Picture
from paredown.search.study.display import name_of, show, title_of
from paredown.search.study.evaluation import Evaluation
from paredown.spaces.system.foreign_text import as_html

MEASURED = "#2e7d5b"


def measured_traces(picture: Picture, across: Axis, up: Axis) -> list[go.Scatter]:
    """Rings where the front's models lie by what was measured, and lines from their predicted points.

    Rings of models that are on the front of measured values are heavier. Nothing where nothing was
    measured.
    """
    known = [m for m in picture.front.members if m.key in picture.measured.values]
    if not known:
        return []
    axes = across, up
    predicted = [axis.values(known) for axis in axes]
    measured = [
        [picture.measured.values[m.key][axis.goal.metric] * axis.unit.factor for m in known]
        for axis in axes
    ]
    ties = [_ties(*pair) for pair in zip(predicted, measured, strict=True)]
    heavy = [3 if picture.measured.holds(member.key) else 1 for member in known]
    return [
        go.Scatter(
            x=ties[0],
            y=ties[1],
            mode="lines",
            line={"color": MEASURED, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            name="measured",
        ),
        go.Scatter(
            x=measured[0],
            y=measured[1],
            mode="markers",
            marker={
                "symbol": "circle-open",
                "color": MEASURED,
                "size": 9,
                "line": {"color": MEASURED, "width": heavy},
            },
            hovertext=[_hover(member, picture) for member in known],
            hoverinfo="text",
            name="measured",
        ),
    ]


def _ties(starts: Sequence[float], ends: Sequence[float]) -> list[float | None]:
    """One line for each pair: a gap follows each end."""
    return [value for pair in zip(starts, ends, strict=True) for value in (*pair, None)]


def _hover(member: Evaluation, picture: Picture) -> str:
    lines = [f"<b>{as_html(name_of(member))}</b>  as measured"]
    for name, value in picture.measured.values[member.key].items():
        predicted = show(name, member.metrics[name])
        lines.append(f"{title_of(name)}: {show(name, value)} (predicted {predicted})")
    is_on = picture.measured.holds(member.key)
    lines.append("on the front of measured values" if is_on else "beaten by another's values")
    return "<br>".join(lines)
