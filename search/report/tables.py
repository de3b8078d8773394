"""Tables for the terminal: a front with its ratios to the uncompressed model, and devices."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.devices.gains import Gain
from paredown.search.report.terminal import styled
from paredown.search.study.display import name_of, show
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.rows import front_rows
from paredown.spaces.system.foreign_text import shown

_KNOBS = {
    "bits_32": "32-bit weights and activations",
    "bits_8": "8-bit weights and activations",
    "bits_8_weights": "8-bit weights alone",
    "bits_4": "4-bit weights",
    "bits_4_linear": "4-bit weights, linear layers",
    "bits_2": "1- and 2-bit weights",
    "bits_other": "3-, 5-, 6-bit weights",
    "width": "fewer channels",
    "rank": "low rank",
    "pattern_2_4": "2:4 sparsity",
    "zeros": "scattered zeros",
}
"""Knobs by their name in a device file's `gains`."""


def plain_table(*columns: str) -> Table:
    """An empty table in our style: no frame, numbers to the right of the first column."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=index == 0)
    return table


def front_table(
    members: Sequence[Evaluation], goals: Sequence[Goal], references: Sequence[Evaluation] = ()
) -> Table:
    """A row per member, best first goal on top, after `references`, faint where not members.

    Where they are of several architectures, each row names its own. Beside each value stands how
    it compares with the first of `references`: costs as a ratio (4.0× is a quarter), accuracy in
    points, other qualities as a difference.
    """
    found = front_rows(members, goals, references)
    has_base = bool(references)
    columns = [text for title in found.titles for text in (title, *([""] if has_base else []))]
    has_several = len({row.evaluation.candidate.architecture for row in found.rows}) > 1
    table = plain_table("model", *(["architecture"] if has_several else []), *columns)
    table.columns[1].no_wrap = has_several
    for row in found.rows:
        cells: list[RenderableType] = [name_of(row.evaluation)]
        if has_several:
            cells.append(row.evaluation.candidate.architecture)
        for value, comparison in zip(row.values, row.comparisons, strict=True):
            cells.append(value)
            if has_base:
                cells.append(styled(comparison, "dim"))
        table.add_row(*cells, style=None if row.is_member else "dim")
    return table


def device_table(devices: Sequence[Device], host: str | None) -> Table:
    """Two lines a device: what it is, and how much faster or smaller knobs make a layer there.

    Made for 80 columns. `host` names the device that describes this machine.
    """
    short = {"bits_8": "8 bits", "bits_4": "4 bits", "width": "width", "pattern_2_4": "2:4"}
    table = plain_table("device", "what it is, and what knobs buy")
    table.columns[1].justify = "left"
    for device in devices:
        effects = ", ".join(f"{t}: {_effect(getattr(device.gains, n))}" for n, t in short.items())
        (most, _), *_ = device.confidences.most_common()
        table.add_row(
            styled(device.name, "bold"),
            Text.assemble(
                shown(device.title),
                (" (this machine)" if device.name == host else "", "green"),
                (f"\n{effects}; figures mostly {most}", "dim"),
            ),
        )
    return table


def device_details(device: Device) -> Group:
    """What each knob buys on `device`, the kernels behind it, and the rest of its file in short."""
    parts: list[RenderableType] = [Text.assemble((device.name, "bold"), f": {device.title}")]
    if device.caveat:
        parts.append(styled(device.caveat, "yellow"))
    return Group(*parts, "", _facts(device), "", _gains(device), "", _kernels(device))


def _facts(device: Device) -> Table:
    offers, alignment, runtime = device.offers, device.alignment, device.runtime
    verified = (
        f"verified with {runtime.verified_with}" if runtime.verified_with else "not run here"
    )
    figures = ", ".join(f"{count} {name}" for name, count in device.confidences.most_common())
    rows = {
        "runtime": f"{runtime.name} {runtime.versions} ({verified})",
        "threads": f"up to {runtime.max_threads}",
        "activation bits": _listed(offers.activation_bits),
        "ONNX weight types": _listed(offers.onnx_types),
        "channels": f"multiples of {alignment.width_step}, rank of {alignment.rank_step} "
        f"({alignment.confidence}: {alignment.source})",
        "memory for weights": _budget(device.memory.weight_budget_bytes),
        "memory for activations": _budget(device.memory.activation_budget_bytes),
        "latency, 95 % of networks": f"± {device.relative_error_95.value:.0%} once the machine's "
        f"speed is known, that within {device.scale_factor_95.value:.2g}×",
        "figures": figures,
    }
    table = plain_table("", "")
    table.show_header = False
    table.columns[1].justify = "left"
    for name, value in rows.items():
        table.add_row(styled(name, "bold"), value)
    return table


def _gains(device: Device) -> Table:
    table = plain_table("knob", "buys", "confidence", "why")
    for name, title in _KNOBS.items():
        gain: Gain = getattr(device.gains, name)
        why = f"{gain.source}; {gain.note}" if gain.note else gain.source
        table.add_row(title, _effect(gain), gain.confidence, why)
    for column in table.columns[1:]:
        column.justify = "left"
    return table


def _kernels(device: Device) -> Table:
    table = plain_table("kernel", "runs", "weight bits", "activation bits", "confidence")
    for kernel in device.kernels:
        bits = _listed(sorted(kernel.weight_bits))
        runs = ", ".join(kernel.operators)
        activations = str(kernel.activation_bits)
        table.add_row(kernel.name, runs, bits, activations, kernel.confidence)
    for column in table.columns[1:]:
        column.justify = "left"
    return table


def _effect(gain: Gain) -> str:
    """What a knob buys in a few words: "speed 1.1–4.4×", "bytes only", "unsupported"."""
    if gain.effect == "baseline":
        return "baseline"
    if gain.effect not in ("faster", "slower"):
        return gain.effect.replace("_", " ")
    if gain.speedup is None:
        return "bytes, slower"
    speed = "–".join(f"{factor:g}" for factor in gain.speedup)
    return f"speed {speed}×" if gain.effect == "faster" else f"bytes, speed {speed}×"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _budget(limit_bytes: int | None) -> str:
    return "no limit of its own" if limit_bytes is None else show("_bytes", limit_bytes)
