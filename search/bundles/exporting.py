"""Exports an evaluated candidate: a bundle whose card says all that verifying it needs.

The uncompressed model is exported beside it, because latency and accuracy are given against that
model, measured in the same minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paredown.compressors.bundle.loading import GRAPH_FILE, TENSORS_FILE, digest_of
from paredown.compressors.bundle.writing import (
    CANDIDATE_FILE,
    ONNX_FILE,
    copy_bundle,
    write_bundle,
)
from paredown.compressors.kernels.kernel_checks import promised_kernels
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.kept import TrainedModels
from paredown.hardware_models.devices.device import DeviceError, host_device
from paredown.hardware_models.timing.measure import fingerprint
from paredown.hardware_models.work.workload import read_work
from paredown.search.bundles.card import (
    VERSION,
    Card,
    Hardware,
    Predicted,
    Uncompressed,
    VerificationError,
    read_card,
)
from paredown.search.config.reading import card_config
from paredown.search.evaluating.workbench import Workbench
from paredown.search.study.evaluation import Evaluation

BUNDLE_FILES = (ONNX_FILE, TENSORS_FILE, GRAPH_FILE, CANDIDATE_FILE)
"""Files that every bundle has; the card pins down their content, and that of the task's own files."""


def export(
    workbench: Workbench,
    evaluation: Evaluation,
    folder: Path,
    uncompressed: Evaluation,
    kept: TrainedModels,
) -> Path:
    """Writes the bundle of `evaluation` to `folder/<key>`, which is returned.

    The bundle of the uncompressed model is written to `folder/<its key>`, unless it is there.

    Args:
        uncompressed: What came of the uncompressed model.
        kept: Where the run keeps its trained models.

    Raises:
        BundleError, ExportError: As `export_model`.
        TrainingError: The model was trained, and `kept` does not hold it.
    """
    model = workbench.model_of(evaluation, kept)
    return export_model(workbench, model, evaluation, folder, uncompressed)


def export_model(
    workbench: Workbench,
    model: CompressedModel,
    evaluation: Evaluation,
    folder: Path,
    uncompressed: Evaluation,
) -> Path:
    """As `export`, of the `model` that `evaluation` is the score of.

    Raises:
        BundleError: A folder of that name holds something else.
        ExportError: An operator has no ONNX lowering.
    """
    base = uncompressed
    is_there = is_written(folder / base.key, card_config(workbench.config))
    if evaluation.key != base.key and not is_there:
        _write(workbench, workbench.assemble(base.candidate), base, base, folder)
    return _write(workbench, model, evaluation, base, folder)


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
    card = read_card(source / evaluation.key)
    if card.uncompressed.onnx_sha256 != digest_of(folder / base.key / ONNX_FILE):
        return False
    if (source / evaluation.key).resolve() != (folder / evaluation.key).resolve():
        copy_bundle(source / evaluation.key, folder / evaluation.key)
    return True


def _is_of(folder: Path, evaluation: Evaluation, config_yaml: str) -> bool:
    """Whether a whole bundle of this very evaluation, at the rung it was scored at, is there."""
    if not is_written(folder, config_yaml):
        return False
    predicted = read_card(folder).predicted.figures
    return all(predicted.get(name) == value for name, value in evaluation.metrics.items())


def _write(
    workbench: Workbench,
    model: CompressedModel,
    evaluation: Evaluation,
    base: Evaluation,
    folder: Path,
) -> Path:
    # The card pins down the files, so it comes after them; a bundle whose card is empty is refused.
    written = write_bundle(folder / evaluation.key, model, evaluation.candidate, card={})
    for name, content in workbench.task.files.items():
        (written / name).write_bytes(content)
    card = Card(
        version=VERSION,
        key=evaluation.key,
        label=evaluation.label,
        task=workbench.task.name,
        metric=workbench.task.metric.name,
        predicted=_predicted(workbench, evaluation, base),
        uncompressed=_uncompressed(workbench, evaluation, base, folder),
        hardware=_hardware(workbench, base),
        integer_kernels=promised_kernels(model.blueprint),
        files={name: digest_of(written / name) for name in (*BUNDLE_FILES, *workbench.task.files)},
        config_yaml=card_config(workbench.config),
    )
    card.write(written)
    return written


def _uncompressed(
    workbench: Workbench, evaluation: Evaluation, base: Evaluation, folder: Path
) -> Uncompressed:
    figures = workbench.price(base.candidate) | dict(base.metrics)
    latency = ("latency_s", "latency_low_s", "latency_high_s")
    shown = (workbench.task.metric.name, *latency, "onnx_bytes", "packed_bytes", "macs")
    return Uncompressed(
        key=base.key,
        bundle="." if evaluation.key == base.key else f"../{base.key}",
        onnx_sha256=digest_of(folder / base.key / ONNX_FILE),
        **{name: figures[name] for name in shown if name in figures},
    )


def _predicted(workbench: Workbench, evaluation: Evaluation, base: Evaluation) -> Predicted:
    candidates = evaluation.candidate, base.candidate
    works = [read_work(workbench.blueprint(candidate)) for candidate in candidates]
    ratio = workbench.cost_models.latency_model.predict_ratio(*works)
    figures = workbench.price(evaluation.candidate) | dict(evaluation.metrics)
    return Predicted(
        latency_ratio=ratio.value,
        latency_ratio_low=ratio.low,
        latency_ratio_high=ratio.high,
        **figures,
    )


def _hardware(workbench: Workbench, base: Evaluation) -> Hardware:
    hardware = workbench.config.hardware
    model = workbench.cost_models.latency_model
    uncompressed = model.predict(read_work(workbench.blueprint(base.candidate)))
    return Hardware(
        device=workbench.device.name,
        threads=hardware.threads,
        batch_size=hardware.priced_batch,
        latency_model=model.source,
        is_timed=uncompressed.held_out_mape is not None,
        caveats=tuple(workbench.caveats),
        machine=fingerprint(hardware.threads) if _is_here(workbench) else None,
    )


def _is_here(workbench: Workbench) -> bool:
    """Whether this machine is the device latencies are predicted for, so they can be checked."""
    try:
        return workbench.device.name == host_device().name
    except DeviceError:
        return False


def pinned_files(card: Card) -> Sequence[str]:
    """Names of the files in a bundle whose content its card must pin down."""
    return tuple(dict.fromkeys((*BUNDLE_FILES, *card.files)))


def is_written(folder: Path, config_yaml: str) -> bool:
    """Whether a complete bundle made from the same config is there, as it was written."""
    try:
        card = read_card(folder)
    except (OSError, VerificationError):
        return False
    return card.config_yaml == config_yaml and all(
        (folder / name).is_file() and digest_of(folder / name) == card.files.get(name)
        for name in pinned_files(card)
    )
