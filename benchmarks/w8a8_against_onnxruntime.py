"""Uniform 8-bit ResNet-20 against ONNX Runtime's own quantiser.

python benchmarks/w8a8_against_onnxruntime.py; needs PAREDOWN_DATA (CIFAR-10 and ResNet-20 weights).

Both start from the same float ONNX file and the same 512 calibration images. Theirs:
`onnxruntime.quantization.quantize_static`, QDQ, weights int8 per channel, activations uint8, with
ranges by MinMax (the default), Percentile and Entropy. Accuracy on the final 5,000 test images, as paired
differences with their standard error; latency of all files interleaved, one thread, batch 1.
"""

from __future__ import annotations

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

from paredown.compressors.assemble import assemble
from paredown.compressors.calibration import CalibrationData, calibrate
from paredown.compressors.database import Database
from paredown.compressors.export.lowering import lower
from paredown.compressors.statistics import summed_cross_entropy
from paredown.hardware_models.measure import measure_latencies
from paredown.search.config import load_config
from paredown.search.tasks import load_task
from paredown.spaces.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.capture import capture
from paredown.spaces.read import read_model_map

CONFIG = Path(__file__).parents[1] / "examples" / "cifar10_packed.yaml"
CALIBRATION_IMAGES = 512
RUNS = 3


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


def is_right(path: Path, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each image is classified right."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = [int(session.run(None, {name: image[None]})[0].argmax()) for image in images]
    return np.array(found) == labels


def main() -> None:
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
    test = task.splits.open_test()
    images, labels = test.rows(0, len(test))
    pixels, truth = images[0].numpy(), labels.numpy()
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
            files[f"paredown W8A8, {method}"] = path = folder / f"{method}.onnx"
            path.write_bytes(lower(assemble(candidate, database)).SerializeToString())
        for method in ("MinMax", "Percentile", "Entropy"):
            chosen = CalibrationMethod[method]
            path = quantised_by_onnxruntime(files["float"], calibration, chosen, folder)
            files[f"ONNX Runtime W8A8, {method}"] = path
        right = {label: is_right(path, pixels, truth) for label, path in files.items()}
        runs = [measure_latencies(list(files.values())) for _ in range(RUNS)]
        report(files, right, runs)


def report(files: dict[str, Path], right: dict[str, np.ndarray], runs: list) -> None:  # type: ignore[type-arg]
    """One line a file: accuracy, paired differences, latency over the float file's, bytes."""
    count = len(right["float"])
    ours = right["paredown W8A8, gptq"]
    print(f"final {count} test images; differences in points, paired, with standard error")
    print(f"{'':30s} accuracy    against float     ours - it         latency     x float    bytes")
    for position, (label, path) in enumerate(files.items()):
        parts = []
        for a, b in ((right[label], right["float"]), (ours, right[label])):
            change = a.astype(float) - b
            error = change.std(ddof=1) / count**0.5
            parts.append(f"{100 * change.mean():+.2f} ± {100 * error:.2f}")
        times = np.array([run[position].mean_s for run in runs])
        base = np.array([run[0].mean_s for run in runs])
        print(
            f"{label:30s} {100 * right[label].mean():6.2f} %   {parts[0]:16s}  {parts[1]:16s}  "
            f"{1e3 * times.min():.3f} ms   {np.median(times / base):.3f}   {path.stat().st_size:8d}"
        )


if __name__ == "__main__":
    main()
