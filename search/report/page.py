"""The report of a search: one page for people who never saw one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paredown.search.proposing.explaining.explanation import Explanation
from paredown.search.report.pages import table, whole_page, write_page
from paredown.search.report.recovery import recovery_section
from paredown.search.report.sections import (
    decisions_section,
    front_section,
    parallel_section,
    progress_section,
)
from paredown.search.report.style import Picture
from paredown.search.report.why import why_section
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.display import describe, name_of, show, title_of
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal, is_cost, reference
from paredown.search.study.front_measured import is_timed
from paredown.search.study.rows import RATIO_NOTE, against, front_rows, references_of
from paredown.spaces.structure.model_map import LeftOut
from paredown.spaces.system.foreign_text import as_html


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Everything the report says beside the pictures.

    `seconds` says where the time went, by words of `_SPENT`.
    `over_bound` counts candidates that a hard bound refused before anything was evaluated;
    `notes` are sentences for the reader (a warning, what could not be tracked).
    """

    model: str
    device: str
    picture: Picture
    duration_s: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    bundles: tuple[BundleCheck, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    over_bound: int = 0
    notes: tuple[str, ...] = field(default=())
    explanation: Explanation | None = None


def write_report(run_folder: Path, summary: RunSummary, places: Mapping[str, str]) -> Path:
    """Path of the written `report.html`, which needs plotly.js beside it.

    Args:
        places: By key where a bundle lies, as a link from `run_folder`.
    """
    return write_page(run_folder / "report.html", summary.picture.title, _body(summary, places))


def report_page(summary: RunSummary) -> str:
    """The same page for MLflow: it needs nothing else and links to nothing."""
    return whole_page(summary.picture.title, _body(summary, {}))


def _body(summary: RunSummary, places: Mapping[str, str]) -> str:
    picture = summary.picture
    sections = [
        _opening(summary),
        front_section(picture, places),
        _front_table(summary, places),
        _bundles(summary, places),
        recovery_section(picture),
        decisions_section(picture),
        why_section(summary.explanation),
        parallel_section(picture),
        progress_section(picture) if picture.hypervolumes else "",
        _times(summary.seconds),
        _failures(picture.evaluations),
        _left_out(summary.left_out),
        _notes(summary),
    ]
    return "".join(sections)


def _opening(summary: RunSummary) -> str:
    picture = summary.picture
    goals = "".join(f"<li>{as_html(_goal(goal))}</li>" for goal in picture.goals)
    sentences = [
        f"{summary.model} was compressed for {summary.device}, in many ways at once: fewer bits, zeros, "
        "lower ranks, fewer channels, fewer blocks, as far as the config allows. "
        f"{picture.headline}, in {_duration(summary.duration_s)}.",
    ]
    if summary.over_bound:
        sentences.append(f"{summary.over_bound} candidates were over a hard bound, not evaluated.")
    if summary.bundles:
        sentences.append(_verdict(summary.bundles))
    text = as_html(" ".join(sentences))
    return f"<p>{text}</p><p>What was asked for:</p><ul>{goals}</ul>{_short(picture)}"


def _short(picture: Picture) -> str:
    """The front in a few lines: the least of each cost for nothing, and at all."""
    base, aim = reference(picture.shown, UNCOMPRESSED), picture.goals[0]
    members = [m for m in picture.ordered if m is not base]
    costs = [goal for goal in picture.goals if is_cost(goal.metric)]
    if base is None or is_cost(aim.metric) or not members or not costs:
        return ""
    whole = aim.loss(base.metrics[aim.metric])
    free = [m for m in members if aim.loss(m.metrics[aim.metric]) <= whole]
    said: dict[str, list[str]] = {}
    for among, condition in ((free, f" with no {title_of(aim.metric)} lost"), (members, "")):
        for cost in costs if among else ():
            best = min(among, key=lambda m: cost.loss(m.metrics[cost.metric]))
            said.setdefault(best.key, []).append(f"least {title_of(cost.metric)}{condition}")
    named = {member.key: member for member in members}
    lines = [
        f"<li><b>{as_html(', '.join(texts))}</b>: {as_html(_figures(named[key], picture, base))}</li>"
        for key, texts in said.items()
    ]
    return f"<p>In short:</p><ul>{''.join(lines)}</ul>"


def _figures(member: Evaluation, picture: Picture, base: Evaluation) -> str:
    figures = ", ".join(_figure(goal, member, base) for goal in picture.goals)
    return f"{name_of(member)}, {figures}"


def _figure(goal: Goal, member: Evaluation, base: Evaluation) -> str:
    value = show(goal.metric, member.metrics[goal.metric])
    return f"{title_of(goal.metric)} {value} ({against(goal, member, base)})"


def _notes(summary: RunSummary) -> str:
    notes = "".join(f'<p class="note">{as_html(note)}</p>' for note in summary.notes)
    return f"<h2>Notes</h2>{notes}{_WORDS}" if notes else _WORDS


_WORDS = """<h2>Words</h2><dl>
<dt>candidate, model</dt><dd>one way to compress the network, named by a key of twelve digits</dd>
<dt>front</dt><dd>the candidates that no other beats in every goal: each is the best at its trade-off</dd>
<dt>reference</dt><dd>a model for comparison: uncompressed, or with all layers at one width</dd>
<dt>predicted, measured</dt><dd>what the search believed of a model (latency by a model of the device),
and what its exported file showed when it was opened again in a fresh process</dd>
<dt>bundle</dt><dd>the folder of an exported model: the ONNX file to run, the packed tensors, its card
and a README with the lines that run it</dd>
<dt>segment</dt><dd>a part of the network that computes in one precision</dd>
</dl>"""


def _verdict(bundles: Sequence[BundleCheck]) -> str:
    """How many models hold, and for how many of them not every rule could be checked."""
    broken = sum(bool(bundle.mismatches) for bundle in bundles)
    said = f"{len(bundles)} models were exported, reloaded and checked; "
    said += f"{broken} did not hold" if broken else "all hold"
    partly = [bundle for bundle in bundles if bundle.unchecked]
    if partly:
        rules = dict.fromkeys(text.split(":")[0] for bundle in partly for text in bundle.unchecked)
        said += f", {len(partly)} could not be checked in everything ({', '.join(rules)})"
    timed = [bundle for bundle in bundles if is_timed(bundle)]
    outside = sum(bool(bundle.warnings) for bundle in timed)
    if timed:
        said += f". {outside} of {len(timed)} measured latencies lie outside their 95 % intervals"
        said += "; of twenty right predictions one does" if outside else ""
    return f"{said}."


def _goal(goal: Goal) -> str:
    text = f"{goal.direction} {title_of(goal.metric)}"
    if goal.at_least is not None:
        text += f" (at least {show(goal.metric, goal.at_least)})"
    if goal.at_most is not None:
        text += f" (at most {show(goal.metric, goal.at_most)})"
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _front_table(summary: RunSummary, places: Mapping[str, str]) -> str:
    picture = summary.picture
    checks = {bundle.key: bundle for bundle in summary.bundles}
    references = references_of(picture.evaluations, picture.front.rung)
    found = front_rows(picture.front.members, picture.goals, references)
    rows = []
    for row in found.rows:
        key = row.evaluation.key
        cells = [f"<b>{as_html(name_of(row.evaluation))}</b>"]
        cells += [
            f'<span class="number">{value} <span class="quiet">{comparison}</span></span>'
            for value, comparison in zip(row.values, row.comparisons, strict=True)
        ]
        said = as_html(describe(row.evaluation.candidate, picture.outline))
        cells.append(f'<span class="quiet wide">{said}</span>')
        cells.append(_bundle_link(checks.get(key), places) if row.is_member else "")
        rows.append(cells)
    faint = [index for index, row in enumerate(found.rows) if not row.is_member]
    head = ["model", *found.titles, "what was done", "bundle"]
    caption = f"{RATIO_NOTE}. Faint rows are references that are not on the front."
    return f'<h2>The front</h2><p class="caption">{caption}</p>{table(head, rows, faint)}'


def _bundle_link(bundle: BundleCheck | None, places: Mapping[str, str]) -> str:
    if bundle is None:
        return ""
    kind = bundle.verdict.replace(" ", "-")
    place = places.get(bundle.key)
    where = f' href="{as_html(place)}"' if place else ""
    return f'<a class="{kind}"{where}>{bundle.verdict}</a>'


_INTERVALS = {
    "latency_s": ("latency_low_s", "latency_high_s"),
    "latency_ratio": ("latency_ratio_low", "latency_ratio_high"),
}
"""Figures that are predicted with an interval, and what its ends are called."""


def _bundles(summary: RunSummary, places: Mapping[str, str]) -> str:
    if not summary.bundles:
        return ""
    both = [n for b in summary.bundles for n in b.predicted if n in b.measured]
    ends = {end for pair in _INTERVALS.values() for end in pair}
    names = [name for name in dict.fromkeys(both) if name not in ends]
    head = ["model", *(f"{title_of(n)}: predicted → measured" for n in names), "verdict"]
    rows = []
    order = {member.key: place for place, member in enumerate(summary.picture.ordered)}
    for bundle in sorted(summary.bundles, key=lambda b: order.get(b.key, len(order))):
        cells = [f"<b>{as_html(bundle.key)}</b>"]
        cells += [_pair(bundle, name) for name in names]
        remarks = [*bundle.mismatches, *(f"warning: {text}" for text in bundle.warnings)]
        remarks += [f"not checked: {text}" for text in bundle.unchecked]
        link = [] if bundle.mismatches else [_bundle_link(bundle, places)]
        cells.append("<br>".join([*link, *map(as_html, remarks)]))
        rows.append(cells)
    caption = (
        "What the search predicted, what the exported file showed, and by how much they differ."
    )
    return (
        f'<h2>Predicted against measured</h2><p class="caption">{caption}</p>{table(head, rows)}'
    )


def _pair(bundle: BundleCheck, name: str) -> str:
    if name not in bundle.predicted or name not in bundle.measured:
        return "–"
    predicted, measured = bundle.predicted[name], bundle.measured[name]
    off = f"{measured / predicted - 1:+.1%}" if predicted else ""
    numbers = f"{show(name, predicted)} → {show(name, measured)}"
    said = [bundle.predicted[end] for end in _INTERVALS.get(name, ()) if end in bundle.predicted]
    interval = f"<br>predicted {' to '.join(show(name, v) for v in said)}" if said else ""
    return f'{numbers} <span class="quiet">{off}{interval}</span>'


_SPENT = {
    "reading": "reading the model, and trying it on real rows",
    "statistics": "statistics of its layers, timing sample networks",
    "predicting": "predicting the damage and the price of what may be chosen",
    "solving": "solving layers and assembling candidates",
    "training": "training, its looks at held-out rows included",
    "scoring": "scoring",
    "other": "evaluations that failed, or that an earlier version recorded",
    "waiting": "workers without a result: starting, proposing, the last of a batch, a lost training",
    "verification": "exporting the front and verifying it",
}
_SPENT_CAPTION = (
    "Seconds of computing, summed over all workers, so that they may be more than the search took. Of a "
    "search that was resumed: those of evaluations from all of it, all others from its last part."
)


def _times(seconds: Mapping[str, float]) -> str:
    """Where the time went; "" where nobody timed it."""
    total_s = sum(seconds.values())
    if not total_s:
        return ""
    rows = [
        [
            _SPENT[name],
            *(f'<span class="number">{x}</span>' for x in (f"{s:,.1f}", f"{s / total_s:.1%}")),
        ]
        for name, s in seconds.items()
    ]
    opening = f'<h2>Where the time went</h2><p class="caption">{_SPENT_CAPTION}</p>'
    return opening + table(["what", "seconds", "share"], rows)


def _failures(evaluations: Sequence[Evaluation]) -> str:
    failed = [(e, e.failure.text) for e in evaluations if e.failure is not None]
    if not failed:
        return ""
    rows = [[str(e.number), f"<b>{as_html(e.key)}</b>", as_html(text[:300])] for e, text in failed]
    return "<h2>Failed evaluations</h2>" + table(["number", "candidate", "reason"], rows)


def _left_out(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return ""
    rows = [[f"<b>{as_html(item.what)}</b>", as_html(item.reason)] for item in left_out]
    return "<h2>Left out</h2>" + table(["what", "why"], rows)
