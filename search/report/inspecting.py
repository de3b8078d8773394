"""What was read off a model before a search: its parts, its knobs, and all that is left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from paredown.compressors.low_rank.rank_by_error import Found
from paredown.search.evaluating.baseline import Baseline
from paredown.search.report.tables import plain_table
from paredown.search.report.terminal import styled
from paredown.search.space.found_ranks import Answers, PlainValue, Question
from paredown.search.study.display import show
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.candidates.factors import weights_at
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.reach import float_bytes, reached_shares
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.model_map import LeftOut, ModelMap
from paredown.spaces.system.json_values import Json


def inspection(
    space: Space, offered: Capabilities, baseline: Baseline, ranks: Answers | None = None
) -> Group:
    """The whole of `space` for a terminal.

    Args:
        offered: Says which knobs save bytes only.
        ranks: What was found for rules with `rank_error`.
    """
    parts: list[RenderableType] = []
    for architecture in space.architectures:
        parts += _architecture(architecture, offered)
        parts += _rank_tables(architecture, ranks or {})
    count = len(space.dimensions())
    parts.append(
        Text.assemble(
            ("The space", "bold"),
            f" on {offered.device}: {count} open knobs, 10^{space.log10_size:.1f} settings",
        )
    )
    parts += ["", _left_out(space.left_out), "", *_baseline(baseline)]
    return Group(*parts)


def inspection_json(
    space: Space, offered: Capabilities, baseline: Baseline, ranks: Answers | None = None
) -> dict[str, Json]:
    """The same as plain values, in SI units; `uncompressed` by the names that goals have."""
    return {
        "device": offered.device,
        "uncompressed": dict(baseline.costs),
        "latency_source": baseline.latency_source,
        "architectures": [_plain(architecture) for architecture in space.architectures],
        "open_knobs": len(space.dimensions()),
        "log10_settings": space.log10_size,
        "rank_by_error": _plain_ranks(space, ranks or {}),
        "left_out": [{"what": item.what, "reason": item.reason} for item in space.left_out],
    }


def _plain(architecture: Architecture) -> dict[str, Json]:
    model_map = architecture.model_map
    return {
        "name": architecture.name,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "weight_shape": list(layer.weight_shape),
                "macs": layer.macs,
            }
            for layer in model_map.layers
        ],
        "groups": [
            {"name": g.name, "channels": g.channels, "entries": g.entries}
            for g in model_map.groups
        ],
        "blocks": [{"name": b.name, "layers": list(b.layers)} for b in model_map.blocks],
        "segments": [{"name": s.name, "layers": list(s.layers)} for s in model_map.segments],
        "weight_bytes": sum(float_bytes(model_map).values()),
        "reach": dict(reached_shares(architecture)),
        "knobs": [
            {
                "kind": knob.kind,
                "targets": list(knob.targets),
                "values": [knob.text(value) for value in knob.domain],
            }
            for knob in architecture.knobs
        ],
    }


def _baseline(baseline: Baseline) -> list[RenderableType]:
    if baseline.problem is not None:
        return [styled(f"The uncompressed model has no price: {baseline.problem}", "red")]
    table = plain_table("uncompressed", "", "as a bound")
    for metric, value in baseline.costs.items():
        table.add_row(metric, show(metric, value), f"{value:.4g}" if value < 1 else f"{value:.0f}")
    source = f"latency by {baseline.latency_source}"
    if baseline.is_preset:
        source += "; a search times networks on this machine, so bound its latency `relative`"
    return [table, styled(source, "dim")]


def _architecture(architecture: Architecture, offered: Capabilities) -> list[RenderableType]:
    model_map = architecture.model_map
    title = architecture.name or "The model"
    weights = sum(layer.weight_count for layer in model_map.layers)
    macs = sum(layer.macs for layer in model_map.layers)
    counts = (
        f"{len(model_map.layers)} layers, {len(model_map.groups)} channel groups, "
        f"{len(model_map.blocks)} droppable blocks, {len(model_map.segments)} segments"
    )
    head = Text.assemble(
        (title, "bold"), f": {counts}; {weights:,} weights, {show('macs', macs)} MACs"
    )
    parts: list[RenderableType] = [head, "", _layers(model_map), ""]
    if model_map.groups:
        parts += [_groups(model_map), ""]
    if model_map.blocks:
        parts += [_blocks(model_map), ""]
    parts += [_segments(model_map), "", _knobs(architecture, offered), ""]
    return [*parts, _reach(architecture), ""]


def _layers(model_map: ModelMap) -> RenderableType:
    table = plain_table("layer", "kind", "weight", "weights", "MACs")
    for layer in model_map.layers:
        shape = " × ".join(str(size) for size in layer.weight_shape)
        macs = show("macs", layer.macs)
        table.add_row(layer.name, layer.kind, shape, f"{layer.weight_count:,}", macs)
    return table


def _groups(model_map: ModelMap) -> RenderableType:
    table = plain_table("channel group", "channels", "made by", "read by")
    for group in model_map.groups:
        makers, readers = ", ".join(group.producers), ", ".join(group.consumers)
        # A head is one channel of several entries.
        count = f"{group.channels} × {group.entries}" if group.entries > 1 else f"{group.channels}"
        table.add_row(group.name, count, makers, readers)
    table.columns[2].justify = table.columns[3].justify = "left"
    return table


def _blocks(model_map: ModelMap) -> RenderableType:
    table = plain_table("droppable block", "layers")
    for block in model_map.blocks:
        table.add_row(block.name, ", ".join(block.layers))
    table.columns[1].justify = "left"
    return table


def _segments(model_map: ModelMap) -> RenderableType:
    table = plain_table("segment", "operators", "layers")
    for segment in model_map.segments:
        table.add_row(segment.name, str(len(segment.nodes)), ", ".join(segment.layers))
    table.columns[2].justify = "left"
    return table


def _knobs(architecture: Architecture, offered: Capabilities) -> RenderableType:
    """Knobs with equal kind and domain share a row: a network of 50 layers has 200 knobs."""
    shared = Counter[tuple[str, str]]()
    targets: dict[tuple[str, str], list[str]] = {}
    is_fixed: dict[tuple[str, str], bool] = {}
    notes: dict[tuple[str, str], str] = {}
    for knob in architecture.knobs:
        same = (knob.kind, knob.domain_text)
        shared[same] += 1
        is_fixed[same] = len(knob.domain) == 1
        notes[same] = _storage_only(knob, offered)
        # Targets of one knob are tied: they take its value together.
        targets.setdefault(same, []).append(" = ".join(knob.targets))
    table = plain_table("knob", "count", "values", "of", "")
    for (kind, domain), count in shared.items():
        names = targets[kind, domain]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        note = "fixed" if is_fixed[kind, domain] else notes[kind, domain]
        table.add_row(kind, str(count), domain, shown, styled(note, "dim"))
    table.columns[2].justify = table.columns[3].justify = "left"
    return table


def _reach(architecture: Architecture) -> RenderableType:
    total = sum(float_bytes(architecture.model_map).values())
    table = plain_table("knob", f"reaches of {show('onnx_bytes', total)} in weights")
    for kind, share in reached_shares(architecture).items():
        table.add_row(kind, f"{share:.1%}")
    return table


def _storage_only(knob: Knob, offered: Capabilities) -> str:
    """Which of a knob's values save bytes and no time on the device; "" where all may save time."""
    slow = knob.bytes_only(offered)
    if not slow:
        return ""
    listed = "" if slow == knob.domain else f": {', '.join(map(knob.text, slow))}"
    return f"bytes only on {offered.device}{listed}"


def _left_out(everything: Iterable[LeftOut]) -> RenderableType:
    unique = dict.fromkeys((item.what, item.reason) for item in everything)
    if not unique:
        return "Nothing is left out."
    table = plain_table("left out", "why")
    for what, reason in unique:
        table.add_row(what, reason)
    # A long list of channels wraps, so that the reason keeps its room on a narrow terminal.
    table.columns[0].no_wrap = False
    table.columns[1].justify = "left"
    table.columns[1].min_width = 36
    return table


def _rank_tables(architecture: Architecture, ranks: Answers) -> list[RenderableType]:
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
        cells[question.error] = _rank_cell(architecture, question, found)
    table = plain_table("rank by error", "form", *(f"error {error:g}" for error in errors))
    table.columns[1].justify = "left"
    for (layer, form), cells in rows.items():
        table.add_row(layer, form, *(cells.get(error, "") for error in errors))
    note = styled(
        "ranks, and the share of the layer's weights; the error is that of its outputs", "dim"
    )
    return [table, note, ""]


def _rank_cell(architecture: Architecture, question: Question, found: Found | None) -> str:
    if found is None:
        return "-"
    layer = architecture.model_map.layer_by_name[question.layer]
    weights = weights_at(question.form, layer.weight_shape, *found.ranks)
    return f"{' × '.join(map(str, found.ranks))} ({weights / layer.weight_count:.0%})"


def _plain_ranks(space: Space, ranks: Answers) -> list[dict[str, PlainValue]]:
    """The same as plain values; `ranks`, `weights` and `lost` are null where the layer stays whole."""
    return [
        vars(question)
        | {
            "ranks": None if found is None else list(found.ranks),
            "weights": None if found is None else _rank_weights(space, question, found),
            "lost": None if found is None else found.lost,
        }
        for question, found in ranks.items()
    ]


def _rank_weights(space: Space, question: Question, found: Found) -> int:
    layer = space.by_name[question.architecture].model_map.layer_by_name[question.layer]
    return int(weights_at(question.form, layer.weight_shape, *found.ranks))
