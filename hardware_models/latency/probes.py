"""Single operators timed: what a kernel takes, where channels align, what really runs.

A search space is only as honest as its device file. Probes hold the file's claims against the
machine: that channels off the multiple are slower, that padded widths cost the same, that integer
kernels exist and pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.latency.operator_models import (
    NARROW_TYPES,
    empty_model,
    operator_model,
)
from paredown.hardware_models.latency.table import PRODUCTS, Signature, TableEntry, signature
from paredown.hardware_models.timing.measure import measure_latencies
from paredown.hardware_models.work.workload import Work

_SAME = 0.15
"""Relative difference below which two probes are said to take the same time."""
_SHORTEST_S = 5e-8
"""Least seconds an operator is given: differences of two timings may come out below zero."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One claim of a device file and what this machine says: `ratio` of two measured times."""

    claim: str
    ratio: float
    holds: bool


def measure_table(
    works: Sequence[Work], device: Device, threads: int = 1, instances: int = 2
) -> tuple[TableEntry, ...]:
    """Entries for every operator with a weight that the works hold and that can stand alone.

    An operator's seconds are those of its one-operator model less those of a model that does
    nothing to an input of that size: the plain look-up table of the literature (nn-Meter's
    baseline, Zhang et al. 2021), which counts the edges of a network once for each operator.
    """
    preset = RooflineLatency(device, threads)
    found: dict[Signature, float] = {}
    for work in works:
        for op, seconds in zip(work.operators, preset.operators_s(work), strict=True):
            if op.kind in PRODUCTS:
                found.setdefault(signature(op), float(seconds))
    models = {s: model for s in found if (model := operator_model(s)) is not None}
    empty = {s: empty_model(s) for s in models}
    measured = measure_latencies(
        [*models.values(), *empty.values()], threads=threads, instances=instances, blocks=10
    )
    times = [each.mean_s for each in measured]
    return tuple(
        TableEntry(
            signature=each,
            seconds=max(_SHORTEST_S, times[i] - times[len(models) + i]),
            preset_s=max(_SHORTEST_S, found[each]),
        )
        for i, each in enumerate(models)
    )


def probe_alignment(device: Device, threads: int = 1) -> tuple[Probe, ...]:
    """Whether 3x3 convolutions align as the device file says, in float and on integers."""
    multiple = device.alignment.multiple
    found: list[Probe] = []
    for integer, block in ((False, device.alignment.float_block), (True, _int8_block(device))):
        if integer and 8 not in device.offers.activation_bits:
            continue
        what = "8-bit" if integer else "float"
        # Two blocks, the same off the multiple, and one multiple above a single block.
        aligned, odd, padded = 2 * block, 2 * block - 1, block + multiple
        widths = [aligned, odd, padded]
        times = _slopes([_square(width, integer) for width in widths], threads)
        if multiple > 1:
            ratio = times[1] / times[0]
            claim = f"{what}: {odd} channels are slower than {aligned}"
            found.append(Probe(claim=claim, ratio=ratio, holds=ratio > 1 + _SAME))
        if block > multiple:
            ratio = times[2] / times[0]
            claim = f"{what}: {padded} channels cost what {aligned} do"
            found.append(Probe(claim=claim, ratio=ratio, holds=abs(ratio - 1) < 2 * _SAME))
    return tuple(found)


def probe_kernels(device: Device, threads: int = 1) -> tuple[Probe, ...]:
    """Whether the kernels that the device file offers as fast are so, against the float ones."""
    found: list[Probe] = []
    if 8 not in device.offers.activation_bits:
        return ()
    cases = {
        "3x3 convolution of 64 channels": _square(64, True),
        "1x1 convolution of 128 channels": _square(128, True, kernel=1),
        "linear layer 512 x 512": _linear(512, True),
    }
    for name, integer in cases.items():
        plain = _as_float(integer)
        fast, slow = _slopes([integer, plain], threads)
        claim = f"8-bit {name} is faster"
        found.append(Probe(claim=claim, ratio=fast / slow, holds=fast < slow * (1 - _SAME)))
    for onnx_type in device.offers.onnx_types:
        if onnx_type not in NARROW_TYPES:
            continue
        stored = _square(64, False, onnx_type=onnx_type)
        held, plain_s = _slopes([stored, _as_float(stored)], threads)
        claim = f"3x3 convolution with {onnx_type} weights alone costs what a float one does"
        ratio = held / plain_s
        found.append(Probe(claim=claim, ratio=ratio, holds=abs(ratio - 1) < 2 * _SAME))
    return tuple(found)


def _slopes(signatures: Sequence[Signature], threads: int) -> list[float]:
    """Seconds of one operator in a chain: a quarter of what seven take beyond three."""
    models = []
    for each in signatures:
        for repeats in (3, 7):
            model = operator_model(each, repeats)
            assert model is not None
            models.append(model)
    found = measure_latencies(models, threads=threads, instances=3, blocks=10)
    times = [each.mean_s for each in found]
    pairs = zip(times[::2], times[1::2], strict=True)
    return [max(_SHORTEST_S, (long - short) / 4) for short, long in pairs]


def _square(
    channels: int, integer: bool, kernel: int = 3, onnx_type: str = "float32"
) -> Signature:
    return Signature(
        kind="conv",
        integer=integer,
        onnx_type="int8" if integer else onnx_type,
        in_channels=channels,
        out_channels=channels,
        kernel_size=(kernel, kernel),
        stride=(1, 1),
        groups=1,
        out_spatial=256,
        batch=1,
    )


def _linear(width: int, integer: bool) -> Signature:
    conv = _square(width, integer)
    return replace(conv, kind="linear", kernel_size=(), stride=(), out_spatial=1)


def _as_float(wanted: Signature) -> Signature:
    return replace(wanted, integer=False, onnx_type="float32")


def _int8_block(device: Device) -> int:
    return device.alignment.int8_out_block
