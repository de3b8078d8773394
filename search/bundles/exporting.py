"""Exports an evaluated candidate: a bundle whose card says all that verifying it needs.

The uncompressed model is exported beside it, because latency and accuracy are told against that
model, measured in the same minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paredown.compressors.bundle.loading import GRAPH_FILE, TENSORS_FILE, digest_of
from paredown.compressors.bundle.writing import (
    CANDIDATE_FILE,
    CARD_FILE,
    ONNX_FILE,
    copy_bundle,
    write_bundle,
    write_card,
)
from paredown.compressors.onnx.kernel_checks import promised_kernels
from paredown.hardware_models.devices.device import DeviceError, host_device
from paredown.hardware_models.timing.measure import fingerprint
from paredown.hardware_models.work.workload import read_work
from paredown.search.config.reading import card_config
from paredown.search.evaluating.workbench import Workbench
from paredown.search.study.evaluation import Evaluation
from paredown.spaces.system.sealed import DamagedFile, read_sealed

BUNDLE_FILES = (ONNX_FILE, TENSORS_FILE, GRAPH_FILE, CANDIDATE_FILE)
"""Files whose content the card pins down."""


def export(
    workbench: Workbench,
    evaluation: Evaluation,
    folder: Path,
    uncompressed: Evaluation | None = None,
) -> Path:
    """Writes the bundle of `evaluation` to `folder/<key>`, which is returned.

    The bundle of the uncompressed model is written to `folder/<its key>`, unless it is there.

    Args:
        uncompressed: What came of the uncompressed model; scored on the search split if not given.

    Raises:
        BundleError: A folder of that name holds something else.
        ExportError: An operator has no ONNX lowering.
    """
    base = uncompressed or workbench.evaluate_uncompressed(rung=1)
    if evaluation.key == base.key:
        return _write(workbench, evaluation, base, folder)
    if not is_written(folder / base.key, card_config(workbench.config)):
        _write(workbench, base, base, folder)
    return _write(workbench, evaluation, base, folder)


def take_written(
    evaluation: Evaluation, base: Evaluation, source: Path, folder: Path, config_yaml: str
) -> bool:
    """Whether `folder/<key>` holds the bundle of `evaluation` now, taken over from `source`.

    It is if a whole one of this evaluation and config lies there, and with it that of the
    uncompressed model `base`, or a bundle of the same model in `folder`.

    Raises:
        BundleError: A folder of that name holds something else.
    """
    if not _is_of(source / evaluation.key, evaluation, config_yaml):
        return False
    if not _is_of(folder / base.key, base, config_yaml):
        if not _is_of(source / base.key, base, config_yaml):
            return False
        copy_bundle(source / base.key, folder / base.key)
    card = read_sealed(source / evaluation.key / CARD_FILE)
    if card["uncompressed"]["onnx_sha256"] != digest_of(folder / base.key / ONNX_FILE):
        return False
    if (source / evaluation.key).resolve() != (folder / evaluation.key).resolve():
        copy_bundle(source / evaluation.key, folder / evaluation.key)
    return True


def _is_of(folder: Path, evaluation: Evaluation, config_yaml: str) -> bool:
    """Whether a whole bundle of this very evaluation, at the rung it was scored at, is there."""
    if not is_written(folder, config_yaml):
        return False
    predicted = read_sealed(folder / CARD_FILE)["predicted"]
    return all(predicted.get(name) == value for name, value in evaluation.metrics.items())


def _write(workbench: Workbench, evaluation: Evaluation, base: Evaluation, folder: Path) -> Path:
    model = workbench.assemble(evaluation.candidate)
    card = _card(workbench, evaluation, base) | {
        "integer_kernels": dict(promised_kernels(model.blueprint))
    }
    written = write_bundle(folder / evaluation.key, model, evaluation.candidate, card)
    # Known only now; a bundle without them is refused by `verify`.
    card["files"] = {name: digest_of(written / name) for name in BUNDLE_FILES}
    card["uncompressed"]["onnx_sha256"] = digest_of(folder / base.key / ONNX_FILE)
    card["config_yaml"] = card_config(workbench.config)
    write_card(written, card)
    return written


def _card(workbench: Workbench, evaluation: Evaluation, base: Evaluation) -> dict[str, Any]:
    is_base = evaluation.key == base.key
    metric = workbench.task.metric.name
    base_costs = workbench.price(base.candidate)
    latency = ("latency_s", "latency_low_s", "latency_high_s")
    told = (metric, *latency, "onnx_bytes", "packed_bytes", "macs")
    return {
        "key": evaluation.key,
        "label": evaluation.label,
        "task": workbench.task.name,
        "metric": metric,
        "predicted": _predicted(workbench, evaluation, base),
        "uncompressed": {
            "key": base.key,
            "bundle": "." if is_base else f"../{base.key}",
            **_only(base_costs | dict(base.metrics), told),
        },
        "hardware": _hardware(workbench, base),
    }


def _predicted(workbench: Workbench, evaluation: Evaluation, base: Evaluation) -> dict[str, float]:
    candidates = evaluation.candidate, base.candidate
    works = [read_work(workbench.blueprint(candidate)) for candidate in candidates]
    ratio = workbench.cost_models.latency_model.predict_ratio(*works)
    return (
        workbench.price(evaluation.candidate)
        | dict(evaluation.metrics)
        | {
            "latency_ratio": ratio.value,
            "latency_ratio_low": ratio.low,
            "latency_ratio_high": ratio.high,
        }
    )


def _hardware(workbench: Workbench, base: Evaluation) -> dict[str, Any]:
    hardware = workbench.config.hardware
    model = workbench.cost_models.latency_model
    uncompressed = model.predict(read_work(workbench.blueprint(base.candidate)))
    return {
        "device": workbench.device.name,
        "threads": hardware.threads,
        "batch_size": hardware.priced_batch,
        "latency_model": model.source,
        "is_timed": uncompressed.held_out_mape is not None,
        "caveats": list(workbench.caveats),
        "machine": fingerprint(hardware.threads) if _is_here(workbench) else None,
    }


def _is_here(workbench: Workbench) -> bool:
    """Whether this machine is the device latencies are predicted for, so they can be checked."""
    try:
        return workbench.device.name == host_device().name
    except DeviceError:
        return False


def _only(values: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: values[name] for name in names if name in values}


def is_written(folder: Path, config_yaml: str) -> bool:
    """Whether a complete bundle made from the same config is there, as it was written."""
    try:
        card = read_sealed(folder / CARD_FILE)
    except (OSError, DamagedFile):
        return False
    files = card.get("files", {})
    return card.get("config_yaml") == config_yaml and all(
        (folder / name).is_file() and digest_of(folder / name) == files.get(name)
        for name in BUNDLE_FILES
    )
