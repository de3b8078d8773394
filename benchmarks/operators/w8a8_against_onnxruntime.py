"""Uniform 8-bit ResNet-20 against ONNX Runtime's own static quantiser.

    PAREDOWN_DATA=... python benchmarks/operators/w8a8_against_onnxruntime.py

Both start from the same float ONNX file and the same 512 calibration images. Theirs:
`onnxruntime.quantization.quantize_static`, QDQ, weights int8 per channel, activations uint8, with
ranges by MinMax (the default), Percentile and Entropy. Accuracy and mean loss on the 10,000 images that
neither saw (the search and the test split), as paired differences with their standard error: the loss
distinguishes files that accuracy cannot. Latency of all files interleaved in the same blocks, one thread,
batch 1, 12 sessions each, with the standard error of their mean. Exit code 1 if ours is worse than one of
theirs by more than two standard errors, in accuracy or in latency.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from paredown.compressors.layers import Database
from paredown.compressors.models import assemble
from paredown.compressors.onnx import lower
from paredown.compressors.statistics import CalibrationData, calibrate, summed_cross_entropy
from paredown.hardware_models.timing import time_interleaved
from paredown.search.config import load_config
from paredown.search.tasks import load_task
from paredown.spaces.candidates import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.capture import capture
from paredown.spaces.structure import read_model_map

CONFIG = Path(__file__).parents[2] / "examples" / "cifar10_packed.yaml"
CALIBRATION_IMAGES = 512
METHODS = ("MinMax", "Percentile", "Entropy")
SESSIONS, BLOCKS = 12, 30
FARTHEST_ERRORS = 2.0
OURS = "paredown W8A8, {}"
THEIRS = "ONNX Runtime W8A8, {}"


class Images(CalibrationDataReader):
    """The calibration images one by one, for ONNX Runtime's quantiser."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._feeds = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantised_by_onnxruntime(
    path: Path, images: np.ndarray, method: CalibrationMethod, folder: Path
) -> Path:
    prepared, made = folder / "prepared.onnx", folder / f"{method.name}.onnx"
    quant_pre_process(str(path), str(prepared))
    name = onnxruntime.InferenceSession(str(prepared)).get_inputs()[0].name
    quantize_static(
        str(prepared),
        str(made),
        Images(name, images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
    )
    return made


def outputs_of(path: Path, images: np.ndarray) -> np.ndarray:
    """Logits (images, classes) of each image on its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def main() -> int:
    """Prints a row for each file; 1 where ours is worse."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if "PAREDOWN_DATA" not in os.environ:
        sys.exit("PAREDOWN_DATA must name the folder with cifar10_jpeg/ and weights/")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    task = load_task(load_config(CONFIG))
    captured = capture(task.module, task.example)
    model_map = read_model_map(captured)
    inputs = [i for i, _ in task.splits.calibration.batches(64, CALIBRATION_IMAGES)]
    data = CalibrationData(
        batches=inputs, targets=None, loss=summed_cross_entropy, loss_digest="", seed=0
    )
    found = calibrate(captured.graph, captured.tensors, model_map.layers, data, None)
    database = Database(model_map, captured.tensors, found.statistics, found.ranges)
    calibration = torch.cat([batch[0] for batch in inputs]).numpy()
    splits = [split.rows(0, len(split)) for split in (task.splits.search, task.splits.open_test())]
    pixels = np.concatenate([images[0].numpy() for images, _ in splits])
    truth = torch.cat([labels for _, labels in splits])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"float": folder / "float.onnx"}
        files["float"].write_bytes(lower(assemble(Candidate(), database)).SerializeToString())
        for method in ("rtn", "gptq"):
            candidate = Candidate.of(
                layers={
                    x.name: LayerChoice(weight_bits=8, method=method) for x in model_map.layers
                },
                segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
            )
            files[OURS.format(method)] = path = folder / f"{method}.onnx"
            path.write_bytes(lower(assemble(candidate, database)).SerializeToString())
        for method in METHODS:
            chosen = CalibrationMethod[method]
            path = quantised_by_onnxruntime(files["float"], calibration, chosen, folder)
            files[THEIRS.format(method)] = path
        scores = {label: score(outputs_of(path, pixels), truth) for label, path in files.items()}
        times_s = np.median(time_interleaved(list(files.values()), 1, SESSIONS, BLOCKS), axis=2)
        return report(files, scores, dict(zip(files, times_s, strict=True)))


def score(outputs: np.ndarray, truth: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is classified right, in points, and its cross-entropy."""
    logits = torch.from_numpy(outputs).double()
    losses = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
    return 100.0 * (logits.argmax(1) == truth).double().numpy(), losses.numpy()


def written(found: tuple[float, float], digits: int) -> str:
    return f"{found[0]:+.{digits}f} ± {found[1]:.{digits}f}"


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of values with its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def report(
    files: dict[str, Path],
    scores: dict[str, tuple[np.ndarray, np.ndarray]],
    times_s: dict[str, np.ndarray],
) -> int:
    """One line a file: differences to the float file, latency, bytes; then ours against theirs."""
    right, losses = scores["float"]
    print(f"{len(right)} images; paired differences to float, with standard error\n")
    print(f"{'':30}{'accuracy':>9}{'points':>16}{'loss':>20}{'latency':>20}{'bytes':>9}")
    for label, path in files.items():
        points = written(mean_and_error(scores[label][0] - right), 2)
        loss = written(mean_and_error(scores[label][1] - losses), 4)
        mean_s, error_s = mean_and_error(times_s[label])
        latency = f"{1e6 * mean_s:.1f} ± {1e6 * error_s:.1f} us"
        accuracy = f"{scores[label][0].mean():.2f} %"
        size = path.stat().st_size
        print(f"{label:30}{accuracy:>9}{points:>16}{loss:>20}{latency:>20}{size:>9}")
    print("\nours less theirs")
    worse = False
    for ours in (OURS.format(m) for m in ("rtn", "gptq")):
        for theirs in (THEIRS.format(m) for m in METHODS):
            points = mean_and_error(scores[ours][0] - scores[theirs][0])
            loss = mean_and_error(scores[ours][1] - scores[theirs][1])
            (a, a_error), (b, b_error) = (mean_and_error(times_s[x]) for x in (ours, theirs))
            slower, error = a / b - 1, float(np.hypot(a_error, b_error)) / b
            print(
                f"{ours:22}{theirs:30}{written(points, 2):>14} points"
                f"{written(loss, 4):>19} loss{slower:+8.1%} ± {error:.1%} time"
            )
            worse |= points[0] < -FARTHEST_ERRORS * points[1] or slower > FARTHEST_ERRORS * error
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
