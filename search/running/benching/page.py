"""What a bench found, as a page: how volume grew in every arm, and all figures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import plotly.graph_objects as go

from paredown.search.report import style
from paredown.search.report.pages import drawn, table, write_page
from paredown.search.report.plots import dress
from paredown.search.report.sections import HYPERVOLUME
from paredown.search.running.benching.arm import Arm, Group
from paredown.search.running.benching.result import BenchResult, Run
from paredown.search.running.benching.tables import bench_csv, bench_json, cells_of, head_of
from paredown.spaces.system.foreign_text import as_html
from paredown.spaces.system.whole_file import write_text_whole

_COLOURS = (
    *("#1f4e9c", "#d1570f", "#2e7d4f", "#8e3b8a", "#b8860b", "#008b94", "#b3261e", "#6b5b4d"),
    *("#5c6bc0", "#7a8f00"),
)
"""Of arms, in their order; with more arms they begin again, in dashes."""
_DASHES = ("solid", "dash", "dot")
_HEADINGS = {
    Group.SAMPLERS: "Samplers",
    Group.PARTS: "All knobs together, and parts of the space",
}
_CAPTION = (
    "A line is the median over seeds of the volume after each evaluation, in the run with the largest "
    "budget; its band reaches from the worst seed to the best. Points are runs with smaller budgets of "
    "their own. The dotted line is the best front that is known. A click on a name hides or shows an arm."
)
_STRICT = (
    "Volume counts beside the uncompressed model's quality (up to ten points of accuracy less, of other "
    "qualities up to their own margin), and below the costs of the uniform 8-bit model, which anybody "
    "gets for free."
)


def write_tables(folder: Path, result: BenchResult) -> Path:
    """Writes `table.json`, `table.csv` and the page, each whole; the path of the page."""
    write_text_whole(folder / "table.json", json.dumps(bench_json(result), indent=1) + "\n")
    write_text_whole(folder / "table.csv", bench_csv(result))
    return write_page(folder / "bench.html", f"paredown bench: {result.name}", bench_body(result))


def bench_body(result: BenchResult) -> str:
    """The page between its title and its end."""
    notes = [head_of(result), HYPERVOLUME, _STRICT]
    if not result.is_whole:
        notes.append("The bench was interrupted: runs are missing.")
    opening = "".join(f"<p>{as_html(note)}</p>" for note in notes)
    groups = [group for group in _HEADINGS if _members(result, group)]
    return opening + "".join(_section(result, group) for group in groups) + _details(result)


def _members(result: BenchResult, group: Group) -> list[Arm]:
    """The arms of a group, with what both groups are held against; none where that is all."""
    found = [arm for arm in result.ranked if arm.group in (group, Group.BESIDE)]
    return found if any(arm.group is group for arm in found) else []


def _section(result: BenchResult, group: Group) -> str:
    arms = _members(result, group)
    heads = [
        text
        for budget in result.budgets
        for text in (f"{budget:,} evaluations, {budget * result.rows:,} images", "of best known")
    ]
    rows = []
    for arm in arms:
        cells = [f'<b class="number">{as_html(arm.name)}</b>']
        for budget in result.budgets:
            median, ends, share = cells_of(result, arm.name, budget)
            cells.append(f'<span class="number">{median} <span class="quiet">{ends}</span></span>')
            cells.append(f'<span class="number">{share}</span>')
        rows.append([*cells, f'<span class="quiet wide">{as_html(arm.text)}</span>'])
    return (
        f'<h2>{as_html(_HEADINGS[group])}</h2><p class="caption">{as_html(_CAPTION)}</p>'
        f"{drawn(volume_figure(result, arms), 0)}{table(['arm', *heads, 'what it is'], rows)}"
    )


def volume_figure(result: BenchResult, arms: list[Arm]) -> go.Figure:
    """Volume over evaluations, a line and a band for each arm, the best first."""
    figure = go.Figure()
    looks = itertools.cycle((c, d) for d in _DASHES for c in _COLOURS)
    for arm, (colour, dash) in zip(arms, looks, strict=False):
        _draw(figure, result, arm, colour, dash)
    if result.best_volume > 0:
        line = {"color": style.QUIET, "width": 1.5, "dash": "dot"}
        figure.add_hline(y=result.best_volume, line=line, annotation_text="best known")
    dress(figure, height=480)
    figure.update_layout(
        legend={"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"}
    )
    figure.update_xaxes(title_text=f"evaluations, each of {result.rows:,} images")
    figure.update_yaxes(title_text="volume", rangemode="tozero")
    return figure


def _draw(figure: go.Figure, result: BenchResult, arm: Arm, colour: str, dash: str) -> None:
    budget = max(run.budget for run in result.runs if run.arm == arm.name)
    curve = result.curve(arm.name, budget)
    counts = list(range(1, len(curve) + 1))
    name = as_html(arm.name)
    band = "rgba({}, {}, {}, 0.10)".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
    figure.add_scatter(
        x=[*counts, *reversed(counts)],
        y=[*(s.high for s in curve), *(s.low for s in reversed(curve))],
        fill="toself",
        fillcolor=band,
        line={"width": 0, "shape": "hv"},
        hoverinfo="skip",
        legendgroup=name,
        showlegend=False,
    )
    figure.add_scatter(
        x=counts,
        y=[s.median for s in curve],
        customdata=[
            [count * result.rows, s.low, s.high] for count, s in zip(counts, curve, strict=True)
        ],
        mode="lines",
        line={"color": colour, "width": 2, "dash": dash, "shape": "hv"},
        name=name,
        legendgroup=name,
        hovertemplate=f"<b>{name}</b><br>%{{x}} evaluations, %{{customdata[0]:,}} images<br>"
        "%{y:.4f} (%{customdata[1]:.4f} to %{customdata[2]:.4f})<extra></extra>",
    )
    _draw_smaller(figure, result, arm, colour)


def _draw_smaller(figure: go.Figure, result: BenchResult, arm: Arm, colour: str) -> None:
    """Points of the medians at the smaller budgets."""
    spreads = [(budget, result.spread(arm.name, budget)) for budget in result.budgets[:-1]]
    points = [(budget, spread.median) for budget, spread in spreads if spread is not None]
    if not points:
        return
    name = as_html(arm.name)
    figure.add_scatter(
        x=[budget for budget, _ in points],
        y=[median for _, median in points],
        mode="markers",
        marker={"color": colour, "size": 8, "symbol": "circle-open", "line": {"width": 2}},
        legendgroup=name,
        showlegend=False,
        hovertemplate=f"<b>{name}</b><br>a run of %{{x}} evaluations: %{{y:.4f}}<extra></extra>",
    )


def _details(result: BenchResult) -> str:
    rows = [
        [
            as_html(run.arm),
            *(f'<span class="number">{value}</span>' for value in _numbers(result, run)),
        ]
        for run in result.runs
    ]
    head = ["arm", "seed", "budget", "evaluations", "images", "failed", "volume"]
    return f"<h2>All runs</h2>{table(head, rows)}"


def _numbers(result: BenchResult, run: Run) -> list[str]:
    count = len(run.history)
    numbers = (run.seed, run.budget, count, count * result.rows, run.failures)
    return [*(f"{number:,}" for number in numbers), f"{run.volume:.4f}"]
