"""The rules on a bundle's files, kernels and latency; each records what it measured and what broke it.

Those on its outputs are in `paredown.search.bundles.output_rules`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime as ort
import torch

from paredown.compressors.bundle.loading import TENSORS_FILE, digest_of, load_model
from paredown.compressors.bundle.writing import ONNX_FILE
from paredown.compressors.kernels.kernel_checks import (
    fallbacks,
    integer_kernels,
    promises,
    session,
)
from paredown.compressors.storage.checking import check_onnx
from paredown.compressors.storage.compressed import CompressedModel
from paredown.hardware_models.timing.measure import MeasuredRatio, fingerprint, measure_ratio
from paredown.search.bundles.card import Card
from paredown.search.bundles.exporting import BUNDLE_FILES, pinned_files
from paredown.search.evaluating.runtime_outputs import run_onnx

_SIZES = {ONNX_FILE: "onnx_bytes", TENSORS_FILE: "packed_bytes"}
# More sessions and blocks than a search takes: one bundle is judged, not many ranked.
SESSIONS = 5
BLOCKS = 100
SETTLED = 0.01
"""Fresh sessions of one model differ by more than this; intervals are ten times as wide."""
PATIENCE_S = 10.0
_PAUSE_S = 1.0


@dataclass
class Findings:
    """What was found so far on one bundle."""

    folder: Path
    card: Card
    predicted: dict[str, float]
    measured: dict[str, float] = field(default_factory=dict)
    kernels: dict[str, int] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def expect(self, holds: bool, mismatch: str) -> None:
        """Records the mismatch unless `holds`."""
        if not holds:
            self.mismatches.append(mismatch)

    def note(self, name: str, value: float) -> None:
        """Keeps a measured figure, if it is a number: files of figures hold no NaN."""
        if math.isfinite(value):
            self.measured[name] = value

    @property
    def onnx_path(self) -> Path:
        """Path of the bundle's ONNX file."""
        return self.folder / ONNX_FILE

    @property
    def baseline(self) -> Path:
        """Folder of the uncompressed model's bundle."""
        return self.folder / self.card.uncompressed.bundle


@dataclass
class Patience:
    """How long bundles verified together may wait for the machine to be as it was."""

    left_s: float = PATIENCE_S


def check_files(found: Findings) -> None:
    """Rules `files`, `bytes` and `content`: all there, as large as predicted, as written."""
    for name in pinned_files(found.card):
        path = found.folder / name
        if not path.is_file():
            found.mismatches.append(f"files: {name} is missing")
            continue
        size = path.stat().st_size
        if name in _SIZES:
            expected = found.predicted[_SIZES[name]]
            found.measured[_SIZES[name]] = float(size)
            found.expect(
                size == expected, f"bytes: {name} has {size:,}, predicted were {expected:,.0f}"
            )
        digest, written = digest_of(path), found.card.files.get(name, "nothing")
        found.expect(
            digest == written,
            f"content: {name} has SHA-256 {digest[:12]}, written was {written[:12]}",
        )


def has_baseline(found: Findings) -> bool:
    """Rule `files` again: whether the uncompressed model is there, as this bundle knew it."""
    path = found.baseline / ONNX_FILE
    holds = path.is_file() and digest_of(path) == found.card.uncompressed.onnx_sha256
    if found.baseline.resolve() != found.folder.resolve():
        found.expect(holds, f"files: {path} must be the uncompressed model exported with this one")
    return holds


def open_bundle(found: Findings) -> tuple[CompressedModel, ort.InferenceSession] | None:
    """Rule `loading`: the simulation's model and a session of the ONNX file that runs, or None."""
    if not all((found.folder / name).is_file() for name in BUNDLE_FILES):
        return None
    try:
        check_onnx(found.onnx_path)
        model, running = load_model(found.folder), session(found.onnx_path)
        graph = model.blueprint.graph
        zeros = [
            torch.zeros(shape, dtype=getattr(torch, dtype))
            for shape, dtype in zip(graph.input_shapes, graph.input_dtypes, strict=True)
        ]
        run_onnx(running, graph, zeros)
        return model, running
    except Exception as error:  # a broken file can raise anything, and each means the same
        first = (str(error).splitlines() or [""])[0][:200]
        found.mismatches.append(f"loading: must open and run, got {type(error).__name__}: {first}")
        return None


def check_kernels(model: CompressedModel, found: Findings) -> None:
    """Rule `kernels`: every layer has its promised integer kernel, and none is missing in number.

    The promise is made again from the bundle's graph, the number is the card's.
    """
    for fallback in fallbacks(found.onnx_path, promises(model.blueprint)):
        found.mismatches.append(f"kernels: {fallback}")
    got = integer_kernels(found.onnx_path)
    found.kernels = dict(got)
    found.measured["integer_kernels"] = float(sum(got.values()))
    for kernel, count in sorted(found.card.integer_kernels.items()):
        found.expect(
            got[kernel] >= count, f"kernels: {kernel} {got[kernel]} times, promised were {count}"
        )


def check_latency(found: Findings, patience: Patience) -> None:
    """Warns of a latency over that of the uncompressed model outside the predicted 95 % interval.

    One in twenty right predictions lies outside, so this is no mismatch. Both models are measured in
    turns. Ratios hold for the machine as it was when latencies were predicted (clocks and neighbours
    slow small networks more than large ones): where the uncompressed model itself is outside its
    interval, both are measured again, as long as there is patience left, and the warning says so
    after that.
    """
    hardware = found.card.hardware
    here = fingerprint(hardware.threads)
    if hardware.machine != here:
        found.unchecked.append(
            f"latency: was predicted for {hardware.machine or hardware.device}, "
            f"this machine is {here}"
        )
        return
    while True:
        started_s = time.monotonic()
        measured = measure_ratio(
            found.onnx_path,
            found.baseline / ONNX_FILE,
            threads=hardware.threads,
            instances=SESSIONS,
            blocks=BLOCKS,
            settled=SETTLED,
        )
        # A preset knows no machine, so none is waited for.
        is_as_it_was = not hardware.is_timed or _is_as_it_was(measured, found)
        if is_as_it_was or patience.left_s <= 0:
            break
        time.sleep(_PAUSE_S)
        patience.left_s -= time.monotonic() - started_s
    check_ratio(measured, found)


def _is_as_it_was(measured: MeasuredRatio, found: Findings) -> bool:
    """Whether the uncompressed model takes what was predicted for it."""
    predicted = found.card.uncompressed
    return predicted.latency_low_s <= measured.baseline.mean_s <= predicted.latency_high_s


def check_ratio(measured: MeasuredRatio, found: Findings) -> None:
    """Records what was measured, with a warning where the interval does not hold it."""
    found.measured |= {
        "latency_s": measured.candidate.mean_s,
        "uncompressed_latency_s": measured.baseline.mean_s,
        "latency_ratio": measured.ratio,
        "latency_ratio_low": measured.low,
        "latency_ratio_high": measured.high,
    }
    low, high = found.predicted["latency_ratio_low"], found.predicted["latency_ratio_high"]
    calm = found.card.uncompressed
    remark = ""
    if not _is_as_it_was(measured, found):
        remark = (
            f"; the machine is not as it was then: the uncompressed model takes "
            f"{1e6 * measured.baseline.mean_s:.0f} us, {1e6 * calm.latency_low_s:.0f} to "
            f"{1e6 * calm.latency_high_s:.0f} were predicted, so verify again when it is"
        )
    if not low <= measured.ratio <= high:
        found.warnings.append(
            f"latency: {measured.ratio:.3f} of the uncompressed model's was measured "
            f"({measured.low:.3f} to {measured.high:.3f} over sessions), predicted with 95 % were "
            f"{low:.3f} to {high:.3f}{remark}"
        )
