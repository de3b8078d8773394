"""HTML pages: one look for all, with plotly.js in a file beside them or inside.

Pages of one folder share a copy of plotly.js (4.8 MB) that lies with them, so that the folder can be
copied, or read from a file share. A page for MLflow has it inside: its frame loads nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from paredown.search.report import style
from paredown.spaces.system.foreign_text import as_html
from paredown.spaces.system.whole_file import write_text_whole

LIBRARY = "plotly.min.js"
"""The file that the pages of a folder share."""


def write_page(path: Path, title: str, body: str) -> Path:
    """Writes a page that needs `LIBRARY` beside it, and that file where it is not there yet."""
    library, text = path.parent / LIBRARY, get_plotlyjs()
    # Of an earlier version of plotly the page's figures might not be drawn.
    if not library.is_file() or library.read_text(encoding="utf-8") != text:
        write_text_whole(library, text)
    missing = "document.documentElement.classList.add('without-library')"
    beside = f'<script src="{LIBRARY}" onerror="{missing}"></script>'
    write_text_whole(path, _document(title, body, beside))
    return path


def whole_page(title: str, body: str) -> str:
    """A page that needs nothing else, with plotly.js inside."""
    return _document(title, body, f"<script>{get_plotlyjs()}</script>")


def drawn(figure: go.Figure, least_width_px: int) -> str:
    """`figure` as HTML for a page's body, as wide as the page; below its least width it scrolls."""
    inner = f'<div style="min-width:{least_width_px}px">{_fragment(figure)}</div>'
    return f'<div class="scroll">{inner}</div>'


def side_by_side(figures: Sequence[go.Figure]) -> str:
    """Figures beside each other where there is room, else below each other."""
    return f'<div class="panels">{"".join(map(_fragment, figures))}</div>'


def _fragment(figure: go.Figure) -> str:
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        default_width="100%",
        config={"displaylogo": False, "responsive": True},
    )
    return text


def table(head: Sequence[str], rows: Sequence[Sequence[str]], faint: Sequence[int] = ()) -> str:
    """A table whose `head` is plain text and whose cells are HTML; rows `faint` are set back."""
    top = "".join(f"<th>{as_html(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr{' class=faint' if index in faint else ''}>"
        + "".join(f"<td>{cell}</td>" for cell in row)
        + "</tr>"
        for index, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _document(title: str, body: str, library: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{as_html(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_CSS}</style>{library}</head><body><main><h1>{as_html(title)}</h1>"
        f'<p class="missing">The pictures need the file {LIBRARY}, which lies beside this page in '
        f"the run's folder; copy it along.</p>{body}</main><script>{_FINISH}</script></body></html>"
    )


_FINISH = """
document.querySelectorAll('.plotly-graph-div').forEach(function (figure) {
  if (!figure.on) return;
  Plotly.Plots.resize(figure);
  figure.on('plotly_click', function (event) {
    var place = event.points[0].customdata;
    if (typeof place === 'string' && place) window.open(place, '_blank', 'noopener');
  });
});
"""
"""Figures take the width of their places, which is settled when the last is there; a click on a point
opens what its trace names for it."""

_CSS = f"""
body {{ margin: 0; color: {style.INK}; background: white; font: 15px/1.5 {style.FONT}; }}
main {{ max-width: 1320px; margin: 0 auto; padding: 28px clamp(14px, 3vw, 32px) 80px; }}
h1 {{ font-size: 26px; margin: 0 0 8px; overflow-wrap: anywhere; }}
h2 {{ font-size: 19px; margin: 44px 0 6px; }}
p, li {{ max-width: 100ch; }}
code {{ font-size: 13px; background: {style.GRID}; padding: 1px 4px; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; font-weight: 600; color: {style.QUIET}; font-size: 13px; }}
th, td {{ padding: 6px 14px 6px 0; border-bottom: 1px solid {style.GRID}; vertical-align: top; }}
td {{ min-width: 6ch; }}
dt {{ font-weight: 600; }} dd {{ margin: 0 0 8px; max-width: 88ch; }}
.panels {{ display: grid; gap: 8px 18px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); }}
.panels > * {{ min-width: 0; }}
/* A text under the mouse may reach over the neighbours of its panel. */
.panels > :hover {{ position: relative; z-index: 2; }}
.panels .main-svg {{ overflow: visible !important; }}
.legend span {{ display: inline-block; margin-right: 18px; }}
.number {{ white-space: nowrap; }}
.wide {{ display: inline-block; min-width: 26ch; }}
.scroll {{ overflow-x: auto; }}
.quiet, .caption {{ color: {style.QUIET}; font-size: 13px; }}
.caption {{ margin: 0 0 8px; max-width: 120ch; }}
.faint {{ color: {style.QUIET}; }}
.note {{ border-left: 3px solid {style.REFERENCE}; padding-left: 12px; }}
details {{ margin: 4px 0; }} summary {{ cursor: pointer; }}
.bar {{ display: inline-block; height: 8px; margin-right: 8px; background: {style.FRONT_LINE}; }}
.missing {{ display: none; color: {style.FAILED}; }}
.without-library .missing {{ display: block; }}
.verified {{ color: {style.FRONT}; }}
.partly-checked {{ color: {style.QUIET}; }}
.mismatch {{ color: {style.FAILED}; }}
"""
