"""The report of a search: one page that needs nothing else, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paredown.search import style
from paredown.search.decisions import decision_figure
from paredown.search.display import Unit, describe, name_of, show, title_of
from paredown.search.evaluation import Evaluation, Goal, reference
from paredown.search.plots import fragment, front_figure, parallel_figure, progress_figure
from paredown.search.style import Picture
from paredown.spaces.foreign_text import as_html
from paredown.spaces.model_map import LeftOut


@dataclass(frozen=True, kw_only=True)
class BundleCheck:
    """What verifying one bundle found: metrics predicted and measured, and rules broken.

    `unchecked` says which rules could not be checked, and why.
    """

    key: str
    folder: str
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    mismatches: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        if self.mismatches:
            return "mismatch"
        return "partly checked" if self.unchecked else "verified"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Everything the report tells beside the pictures.

    `over_bound` counts candidates that a hard bound refused before anything was evaluated;
    `notes` are sentences for the reader (a warning, what could not be tracked).
    """

    model: str
    device: str
    picture: Picture
    duration_s: float
    bundles: tuple[BundleCheck, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    over_bound: int = 0
    notes: tuple[str, ...] = field(default=())


def write_report(run_folder: Path, summary: RunSummary) -> Path:
    """Path of the written `report.html`; links in it are relative to `run_folder`."""
    picture = summary.picture
    sections = [
        _opening(summary),
        fragment(front_figure(picture), with_library=True),
        "<h2>The front</h2>" + _front_table(summary),
        _bundles(summary),
        "<h2>What was decided</h2>" + fragment(decision_figure(picture), with_library=False),
        fragment(parallel_figure(picture), with_library=False),
        fragment(progress_figure(picture), with_library=False) if picture.hypervolumes else "",
        _failures(picture.evaluations),
        _left_out(summary.left_out),
    ]
    title = f"paredown: {as_html(picture.name or summary.model)}"
    path = run_folder / "report.html"
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_CSS}</style>'
        f"<main><h1>{title}</h1>{''.join(sections)}</main></html>",
        encoding="utf-8",
    )
    return path


def _opening(summary: RunSummary) -> str:
    picture = summary.picture
    goals = ", ".join(_goal(goal) for goal in picture.goals)
    sentences = [
        f"{summary.model} on {summary.device}: {goals}.",
        f"{picture.headline}, in {_duration(summary.duration_s)}.",
    ]
    if summary.over_bound:
        sentences.append(f"{summary.over_bound} candidates were over a hard bound, not evaluated.")
    if summary.bundles:
        sentences.append(_verdict(summary.bundles))
    notes = "".join(f'<p class="note">{as_html(note)}</p>' for note in summary.notes)
    return f"<p>{as_html(' '.join(sentences))}</p>{notes}"


def _verdict(bundles: Sequence[BundleCheck]) -> str:
    """How many models hold, and for how many of them not every rule could be checked."""
    broken = sum(bool(bundle.mismatches) for bundle in bundles)
    told = f"{len(bundles)} models were exported, reloaded and checked; "
    told += f"{broken} did not hold" if broken else "all hold"
    partly = [bundle for bundle in bundles if bundle.unchecked]
    if partly:
        rules = dict.fromkeys(text.split(":")[0] for bundle in partly for text in bundle.unchecked)
        told += f", {len(partly)} could not be checked in everything ({', '.join(rules)})"
    return f"{told}."


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


def _front_table(summary: RunSummary) -> str:
    picture = summary.picture
    base = reference(picture.evaluations, "uncompressed")
    folders = {bundle.key: bundle for bundle in summary.bundles}
    head = ["model", *(title_of(goal.metric) for goal in picture.goals), "candidate", "bundle"]
    # One unit down a column, so that it can be compared by eye.
    units = {g.metric: style.axis_of(picture, g).unit for g in picture.goals}
    rows = []
    for member in picture.ordered:
        cells = [f"<b>{as_html(name_of(member))}</b>"]
        cells += [
            f'<span class="number">{_value(member, goal, units[goal.metric], base)}</span>'
            for goal in picture.goals
        ]
        cells.append(f'<span class="quiet">{as_html(_candidate(member, picture))}</span>')
        cells.append(_bundle_link(folders.get(member.key)))
        rows.append(cells)
    return _table(head, rows)


def _candidate(member: Evaluation, picture: Picture) -> str:
    return describe(member.candidate, picture.outline)


def _value(member: Evaluation, goal: Goal, unit: Unit, base: Evaluation | None) -> str:
    value = member.metrics[goal.metric]
    text = show(goal.metric, value, unit)
    if base is None or base is member or goal.metric not in base.metrics:
        return text
    whole = base.metrics[goal.metric]
    if goal.metric == "accuracy":
        return f'{text} <span class="quiet">{100 * (value - whole):+.2f}</span>'
    if value > 0 and goal.direction == "minimize":
        return f'{text} <span class="quiet">1/{whole / value:.2f}</span>'
    return text


def _bundle_link(bundle: BundleCheck | None) -> str:
    if bundle is None:
        return ""
    kind = bundle.verdict.replace(" ", "-")
    return f'<a class="{kind}" href="{as_html(bundle.folder)}">{bundle.verdict}</a>'


_INTERVALS = {
    "latency_s": ("latency_low_s", "latency_high_s"),
    "latency_ratio": ("latency_ratio_low", "latency_ratio_high"),
}
"""Figures that are predicted with an interval, and what its ends are called."""


def _bundles(summary: RunSummary) -> str:
    if not summary.bundles:
        return ""
    both = [n for b in summary.bundles for n in b.predicted if n in b.measured]
    ends = {end for pair in _INTERVALS.values() for end in pair}
    names = [name for name in dict.fromkeys(both) if name not in ends]
    head = ["model", *(f"{title_of(n)}: predicted → measured" for n in names), "verdict"]
    rows = []
    for bundle in summary.bundles:
        cells = [f"<b>{as_html(bundle.key)}</b>"]
        cells += [_pair(bundle, name) for name in names]
        told = [*bundle.mismatches, *(f"not checked: {text}" for text in bundle.unchecked)]
        link = [] if bundle.mismatches else [_bundle_link(bundle)]
        cells.append("<br>".join([*link, *map(as_html, told)]))
        rows.append(cells)
    return "<h2>Predicted against measured</h2>" + _table(head, rows)


def _pair(bundle: BundleCheck, name: str) -> str:
    if name not in bundle.predicted or name not in bundle.measured:
        return "–"
    predicted, measured = bundle.predicted[name], bundle.measured[name]
    off = f"{measured / predicted - 1:+.1%}" if predicted else ""
    numbers = f"{show(name, predicted)} → {show(name, measured)}"
    said = [bundle.predicted[end] for end in _INTERVALS.get(name, ()) if end in bundle.predicted]
    interval = f"<br>predicted {' to '.join(show(name, v) for v in said)}" if said else ""
    return f'{numbers} <span class="quiet">{off}{interval}</span>'


def _failures(evaluations: Sequence[Evaluation]) -> str:
    failed = [e for e in evaluations if e.error is not None]
    if not failed:
        return ""
    rows = [
        [str(e.number), f"<b>{as_html(e.key)}</b>", as_html((e.error or "")[:300])] for e in failed
    ]
    return "<h2>Failed evaluations</h2>" + _table(["number", "candidate", "reason"], rows)


def _left_out(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return ""
    rows = [[f"<b>{as_html(item.what)}</b>", as_html(item.reason)] for item in left_out]
    return "<h2>Left out</h2>" + _table(["what", "why"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{as_html(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


_CSS = f"""
body {{ margin: 0; color: {style.INK}; background: white; font: 15px/1.5 {style.FONT}; }}
main {{ max-width: 1320px; margin: 0 auto; padding: 28px 32px 80px; }}
h1 {{ font-size: 26px; margin: 0 0 8px; }}
h2 {{ font-size: 19px; margin: 44px 0 10px; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; font-weight: 600; color: {style.QUIET}; font-size: 13px; }}
th, td {{ padding: 6px 14px 6px 0; border-bottom: 1px solid {style.GRID}; vertical-align: top; }}
.number {{ white-space: nowrap; }}
.scroll {{ overflow-x: auto; }}
.quiet {{ color: {style.QUIET}; font-size: 13px; }}
.note {{ border-left: 3px solid {style.REFERENCE}; padding-left: 12px; }}
.verified {{ color: {style.FRONT}; }}
.partly-checked {{ color: {style.QUIET}; }}
.mismatch {{ color: {style.FAILED}; }}
"""
