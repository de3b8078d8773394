"""Each picture of a page with its heading and the sentences that explain how to read it."""

from __future__ import annotations

from collections.abc import Mapping

from paredown.search.report import style
from paredown.search.report.decisions import decision_figure, decision_width_px
from paredown.search.report.measured_trace import MEASURED
from paredown.search.report.pages import drawn, side_by_side
from paredown.search.report.plots import front_panels, parallel_figure, progress_figure
from paredown.search.report.style import Picture
from paredown.search.study.display import title_of
from paredown.spaces.system.foreign_text import as_html

HYPERVOLUME = (
    "The hypervolume is one figure for a whole front: how much of the space between a worst "
    "acceptable model and the ideal the front dominates. It is 0 while nothing beats the worst "
    "acceptable model, grows with every better trade-off, and is comparable only between searches "
    "with the same goals. Accuracy counts as a share and costs as logarithms: with two goals, ten "
    "points of accuracy held at half the cost are worth 0.1 × ln 2 ≈ 0.07."
)

_LEGEND = "".join(
    f'<span><b style="color:{colour}">{mark}</b> {as_html(text)}</span>'
    for mark, colour, text in (
        ("●", style.FRONT, "on the front"),
        ("●", style.DOMINATED, "beaten by one of them"),
        ("◆", style.REFERENCE, "reference: the uncompressed model, or all layers at 8 or 4 bits"),
        (
            "○",
            MEASURED,
            "as measured of the exported file on the test split, tied to its prediction",
        ),
    )
)
_PARALLEL_AXIS_PX = 96


def front_section(picture: Picture, places: Mapping[str, str]) -> str:
    """The front in every pair of goals; `places` as `front_panels` takes them."""
    click = " A click on one of the front opens its bundle." if places else ""
    caption = (
        "Every point is one compressed model. The line bounds what the front dominates: no model "
        "that was tried is better than one of the front in every goal. A panel shows two goals; a "
        f"model of the front may lie behind its line where it is better in another goal.{click}"
    )
    panels = side_by_side(front_panels(picture, places))
    return f'{_opening("The trade-off", caption)}<p class="caption legend">{_LEGEND}</p>{panels}'


def decisions_section(picture: Picture) -> str:
    """What each model of the front does to each layer and to the structure."""
    caption = (
        "A column is one model of the front, the best "
        f"{title_of(picture.goals[0].metric)} on the left; a row is a layer, the largest on top. "
        "The number is the layer's weight bits (32: not quantised; a dash: the model has no such "
        "layer). Below stands what else is changed: the share of activations computed in 8 bits, "
        "of weights that are zero, of ranks and channels kept, and blocks kept or gone. What no "
        "model changes has no row."
    )
    chart = drawn(decision_figure(picture), decision_width_px(picture))
    return _opening("What was decided", caption) + chart


def parallel_section(picture: Picture) -> str:
    """All evaluations, goals beside knobs."""
    caption = (
        "A line is one compressed model, with its goals on the left and what was done to it on the "
        "right; those of the front are coloured. Drag along an axis to see only models in that range."
    )
    figure = parallel_figure(picture)
    width = _PARALLEL_AXIS_PX * len(figure.data[0].dimensions) + 130
    return _opening("Goals and knobs", caption) + drawn(figure, width)


def progress_section(picture: Picture) -> str:
    """The hypervolume as it grew."""
    flat = "Where the line has been flat for long, more evaluations would hardly have changed the front."
    return _opening("Progress", f"{HYPERVOLUME} {flat}") + drawn(progress_figure(picture), 0)


def _opening(heading: str, caption: str) -> str:
    return f'<h2>{as_html(heading)}</h2><p class="caption">{as_html(caption)}</p>'
