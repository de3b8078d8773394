"""The rules a bundle must keep; each notes what it measured and how it was broken."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from paredown.compressors.compressed import CompressedModel
from paredown.compressors.export.bundle import ONNX_FILE
from paredown.compressors.export.checking import check_onnx
from paredown.compressors.export.kernels import fallbacks, integer_kernels, promises, session
from paredown.compressors.export.loading import TENSORS_FILE, digest_of, load_model
from paredown.hardware_models.measure import MeasuredRatio, fingerprint, measure_ratio
from paredown.search.exporting import BUNDLE_FILES
from paredown.search.onnx_outputs import Outputs, both_outputs, run_onnx
from paredown.search.splits import Split
from paredown.spaces.functions import QUANTISERS

RELATIVE_ERROR = 1e-4
TOP1_AGREEMENT = 0.995
METRIC_TOLERANCE = 0.003
_PARITY_ROWS = 256
_SEED = 11
_SHARES = ("accuracy", "mean_iou")
_SIZES = {ONNX_FILE: "onnx_bytes", TENSORS_FILE: "packed_bytes"}
# More sessions and blocks than a search takes: one bundle is judged, not many ranked.
SESSIONS = 5
BLOCKS = 100
PATIENCE_S = 30.0
_PAUSE_S = 1.0


@dataclass
class Findings:
    """What was found so far on one bundle."""

    folder: Path
    card: Mapping[str, Any]
    predicted: dict[str, float]
    measured: dict[str, float] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def expect(self, holds: bool, mismatch: str) -> None:
        """Notes the mismatch unless `holds`."""
        if not holds:
            self.mismatches.append(mismatch)

    @property
    def onnx_path(self) -> Path:
        return self.folder / ONNX_FILE

    @property
    def baseline(self) -> Path:
        """Folder of the uncompressed model's bundle."""
        return self.folder / str(self.card["uncompressed"]["bundle"])


@dataclass
class Patience:
    """How long bundles verified together may wait for the machine to be as it was."""

    left_s: float = PATIENCE_S


def check_files(found: Findings) -> None:
    """Rules `files`, `bytes` and `content`: all there, as large as predicted, as written."""
    for name in BUNDLE_FILES:
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
        digest, written = digest_of(path), str(found.card["files"].get(name))
        found.expect(
            digest == written,
            f"content: {name} has SHA-256 {digest[:12]}, written was {written[:12]}",
        )


def has_baseline(found: Findings) -> bool:
    """Rule `files` again: whether the uncompressed model is there, as this bundle knew it."""
    path = found.baseline / ONNX_FILE
    holds = path.is_file() and digest_of(path) == found.card["uncompressed"].get("onnx_sha256")
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


def has_codes(model: CompressedModel) -> bool:
    """Whether any activation is 8 bits wide."""
    return any(node.op in QUANTISERS for node in model.blueprint.graph.nodes)


def random_rows(model: CompressedModel) -> Split:
    """Inputs made up by shape and type: normal floats, zeros and ones for integers."""
    graph = model.blueprint.graph
    generator = torch.Generator().manual_seed(_SEED)
    inputs = []
    for shape, dtype in zip(graph.input_shapes, graph.input_dtypes, strict=True):
        size = (_PARITY_ROWS, *shape[1:])
        kind = getattr(torch, dtype)
        made = torch.randn(size, generator=generator)
        inputs.append(made.to(kind) if kind.is_floating_point else (made > 0).to(kind))
    return Split(inputs=tuple(inputs), targets=torch.zeros(_PARITY_ROWS))


def check_parity(model: CompressedModel, test: Split, found: Findings) -> None:
    """Rule `parity`: without 8-bit activations both runtimes agree up to rounding.

    The largest difference over the largest magnitude, per output, on 256 inputs.
    """
    exact = session(found.onnx_path, exact=True)
    off, size = 0.0, 0.0
    for outputs, simulated, _ in both_outputs(exact, model, test, _PARITY_ROWS):
        off = max(off, _largest_difference(outputs, simulated))
        size = max(size, *(float(value.abs().max()) for value in simulated))
    relative = off / size if size else off
    found.measured["relative_error"] = relative
    found.expect(
        relative <= RELATIVE_ERROR,
        f"parity: outputs are off by {relative:.2e} of the largest, at most {RELATIVE_ERROR:.0e}",
    )


def _largest_difference(outputs: Outputs, simulated: Outputs) -> float:
    pairs = zip(outputs, simulated, strict=True)
    worst = torch.stack([(a.double() - b.double()).abs().max() for a, b in pairs]).max()
    # max() would drop a NaN, and a NaN is as wrong as can be.
    return float("inf") if bool(worst.isnan()) else float(worst)


def check_agreement(share: float, found: Findings) -> None:
    """Rule `agreement`: with 8-bit activations both runtimes choose the same class."""
    found.measured["top1_agreement"] = share
    found.expect(
        share >= TOP1_AGREEMENT,
        f"agreement: ONNX Runtime and the simulation choose the same class for {share:.2%}, "
        f"at least {TOP1_AGREEMENT:.1%}",
    )


def check_metric(name: str, value: float, simulated: float, found: Findings) -> None:
    """Rule `metric`: through ONNX Runtime within 0.3 points of the simulation, on one split.

    Metrics that are no shares may be off by 0.3 % of their value.
    """
    found.predicted[f"test_{name}"] = simulated
    found.measured[f"test_{name}"] = value
    allowed = METRIC_TOLERANCE * (1.0 if name in _SHARES else abs(simulated))
    found.expect(
        abs(value - simulated) <= allowed,
        f"metric: {name} on the test split is {value:.4f} through ONNX Runtime, "
        f"{simulated:.4f} +- {allowed:.2g} in the simulation",
    )


def check_kernels(model: CompressedModel, found: Findings) -> None:
    """Rule `kernels`: every layer has its promised integer kernel, and none is missing in number.

    The promise is made again from the bundle's graph, the number is the card's.
    """
    for fallback in fallbacks(found.onnx_path, promises(model.blueprint)):
        found.mismatches.append(f"kernels: {fallback}")
    got = integer_kernels(found.onnx_path)
    found.measured["integer_kernels"] = float(sum(got.values()))
    for kernel, count in sorted(found.card["integer_kernels"].items()):
        found.expect(
            got[kernel] >= count, f"kernels: {kernel} {got[kernel]} times, promised were {count}"
        )


def check_latency(found: Findings, patience: Patience) -> None:
    """Rule `latency`: over that of the uncompressed model within the predicted interval.

    Both are measured in turns. Ratios hold for the machine as it was when latencies were predicted
    (clocks and neighbours slow small networks more than large ones): where the uncompressed model
    itself is outside its interval, both are measured again, as long as there is patience left, and
    a mismatch says so after that.
    """
    hardware = found.card["hardware"]
    threads = int(hardware["threads"])
    here = fingerprint(threads)
    if hardware["machine"] != here:
        found.unchecked.append(
            f"latency: was predicted for {hardware['machine'] or hardware['device']}, "
            f"this machine is {here}"
        )
        return
    while True:
        started_s = time.monotonic()
        measured = measure_ratio(
            found.onnx_path,
            found.baseline / ONNX_FILE,
            threads=threads,
            instances=SESSIONS,
            blocks=BLOCKS,
        )
        # A preset knows no machine, so none is waited for.
        is_as_it_was = not hardware["is_timed"] or _is_as_it_was(measured, found)
        if is_as_it_was or patience.left_s <= 0:
            break
        time.sleep(_PAUSE_S)
        patience.left_s -= time.monotonic() - started_s
    check_ratio(measured, found)


def _is_as_it_was(measured: MeasuredRatio, found: Findings) -> bool:
    """Whether the uncompressed model takes what was predicted for it."""
    low, high = (found.card["uncompressed"][f"latency_{end}_s"] for end in ("low", "high"))
    return bool(low <= measured.baseline.mean_s <= high)


def check_ratio(measured: MeasuredRatio, found: Findings) -> None:
    """The rule `latency` on what was measured."""
    found.measured |= {
        "latency_s": measured.candidate.mean_s,
        "uncompressed_latency_s": measured.baseline.mean_s,
        "latency_ratio": measured.ratio,
        "latency_ratio_low": measured.low,
        "latency_ratio_high": measured.high,
    }
    low, high = found.predicted["latency_ratio_low"], found.predicted["latency_ratio_high"]
    baseline_s = measured.baseline.mean_s
    calm = [float(found.card["uncompressed"][f"latency_{end}_s"]) for end in ("low", "high")]
    remark = ""
    if not _is_as_it_was(measured, found):
        remark = (
            f"; the machine is not as it was then: the uncompressed model takes "
            f"{1e6 * baseline_s:.0f} us, {1e6 * calm[0]:.0f} to {1e6 * calm[1]:.0f} were "
            "predicted, so verify again when it is"
        )
    found.expect(
        low <= measured.ratio <= high,
        f"latency: {measured.ratio:.3f} of the uncompressed model's "
        f"({measured.low:.3f} to {measured.high:.3f} over sessions), predicted were "
        f"{low:.3f} to {high:.3f}{remark}",
    )
