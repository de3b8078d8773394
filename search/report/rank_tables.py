"""The ranks found for the errors that rules allow, for `inspect`: a row for each layer and form."""

from __future__ import annotations

from rich.console import RenderableType

from paredown.compressors.low_rank.rank_by_error import Found
from paredown.search.report.tables import plain_table
from paredown.search.report.terminal import styled
from paredown.search.space.found_ranks import Answers, PlainValue, Question
from paredown.spaces.candidates.factors import weights_at
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space


def rank_tables(architecture: Architecture, ranks: Answers) -> list[RenderableType]:
    """Ranks and the share of the layer's weights by form and error; nothing where none was asked for.

    Ranks of "tucker" are what its kernel reads and writes. A dash stands where no rank that keeps the
    error saves weights.
    """
    own = {each: found for each, found in ranks.items() if each.architecture == architecture.name}
    if not own:
        return []
    errors = sorted({each.error for each in own})
    rows: dict[tuple[str, str], dict[float, str]] = {}
    for question, found in own.items():
        cells = rows.setdefault((question.layer, question.form), {})
        cells[question.error] = _cell(architecture, question, found)
    table = plain_table("rank by error", "form", *(f"error {error:g}" for error in errors))
    table.columns[1].justify = "left"
    for (layer, form), cells in rows.items():
        table.add_row(layer, form, *(cells.get(error, "") for error in errors))
    note = styled(
        "ranks, and the share of the layer's weights; the error is that of its outputs", "dim"
    )
    return [table, note, ""]


def _cell(architecture: Architecture, question: Question, found: Found | None) -> str:
    if found is None:
        return "-"
    layer = architecture.model_map.layer_by_name[question.layer]
    weights = weights_at(question.form, layer.weight_shape, *found.ranks)
    return f"{' × '.join(map(str, found.ranks))} ({weights / layer.weight_count:.0%})"


def plain_ranks(space: Space, ranks: Answers) -> list[dict[str, PlainValue]]:
    """The same as plain values; `ranks`, `weights` and `lost` are null where the layer stays whole."""
    return [
        vars(question)
        | {
            "ranks": None if found is None else list(found.ranks),
            "weights": None if found is None else _weights(space, question, found),
            "lost": None if found is None else found.lost,
        }
        for question, found in ranks.items()
    ]


def _weights(space: Space, question: Question, found: Found) -> int:
    layer = space.by_name[question.architecture].model_map.layer_by_name[question.layer]
    return int(weights_at(question.form, layer.weight_shape, *found.ranks))
