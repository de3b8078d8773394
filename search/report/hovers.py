"""What a picture says of the point or cell under the mouse, as HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from paredown.search.report import style
from paredown.search.report.style import Picture
from paredown.search.study.display import Outline, Unit, describe, name_of, show, title_of
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, reference
from paredown.search.study.rows import against
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.system.foreign_text import as_html

_LETTERS = 30
"""Longest line of a hover text: half of a telephone's screen, as it stands beside its point."""


def hovers(picture: Picture) -> dict[int, str]:
    """HTML for the point of each evaluation that can be drawn, by its number.

    Its name, the goals in the axes' units with their ratios, and the candidate; more is on its card.
    """
    base = reference(picture.shown, UNCOMPRESSED)
    units = {goal.metric: style.axis_of(picture, goal).unit for goal in picture.goals}
    return {e.number: _hover(e, picture, base, units) for e in picture.shown}


def _hover(
    evaluation: Evaluation, picture: Picture, base: Evaluation | None, units: Mapping[str, Unit]
) -> str:
    lines = [f"<b>{as_html(name_of(evaluation))}</b>  evaluation {evaluation.number}"]
    if evaluation.label:
        lines.append(as_html(evaluation.key))
    for goal in picture.goals:
        text = show(goal.metric, evaluation.metrics[goal.metric], units[goal.metric])
        comparison = "" if evaluation is base else against(goal, evaluation, base)
        lines.append(f"{as_html(title_of(goal.metric))}: <b>{text}</b>  {comparison}".rstrip())
    for part in describe(evaluation.candidate, picture.outline).split("; "):
        lines += _short_lines(part)
    return "<br>".join(lines)


def _short_lines(text: str) -> list[str]:
    """`text` broken between words where it can be, as HTML."""
    return [as_html(line) for line in textwrap.wrap(text, _LETTERS)]


def why_absent(outline: Outline, candidate: Candidate, layer: str) -> str:
    """Why `candidate` has no such layer: it went with a block, or its network never had it."""
    own = outline.architectures.get(candidate.architecture, outline)
    gone = [name for name in candidate.dropped if layer in own.blocks.get(name, ())]
    if gone:
        return f"gone with block {gone[0]}"
    return f"not in {candidate.architecture or 'this network'}"
