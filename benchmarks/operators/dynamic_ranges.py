"""8-bit ranges found in every run, against static ones and ONNX Runtime's own `quantize_dynamic`.

    PAREDOWN_DATA=... python benchmarks/operators/dynamic_ranges.py [--steps 1200] [--timing-only]

First the small transformer of `reader.py` learns, and is then stored in several ways: 8-bit and 4-bit
weights beside static and dynamic 8-bit ranges, and by ONNX Runtime's own `quantize_dynamic` (int8
weights per channel). Every file runs in ONNX Runtime, one thread, one context of 64 characters at a
time: mean loss on 256 held-out contexts, as the paired rise over float with its standard error, the
file's bytes, and its time, all files interleaved.

Then the time of one linear layer at several sizes and numbers of rows: float, static and dynamic.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from reader import CONTEXT, batches, learn, read_arguments, read_text
from torch import Tensor, nn

from paredown.compressors.kernels import session
from paredown.compressors.layers import Database
from paredown.compressors.models import assemble
from paredown.compressors.onnx import lower
from paredown.compressors.statistics import collect_ranges, collect_statistics
from paredown.hardware_models.timing import fingerprint, measure_latencies
from paredown.search.calibrating import imagine
from paredown.spaces.candidates import Candidate, LayerChoice, SegmentChoice, draft
from paredown.spaces.capture import capture
from paredown.spaces.knobs import Architecture, canonical
from paredown.spaces.structure import read_model_map

STATIC = SegmentChoice(activation_bits=8)
DYNAMIC = SegmentChoice(activation_bits=8, ranges="dynamic")
WAYS = {
    "float": (LayerChoice(), SegmentChoice()),
    "8-bit weights, static": (LayerChoice(weight_bits=8), STATIC),
    "8-bit weights, dynamic": (LayerChoice(weight_bits=8), DYNAMIC),
    "4-bit weights, static": (LayerChoice(weight_bits=4, method="gptq"), STATIC),
    "4-bit weights, dynamic": (LayerChoice(weight_bits=4, method="gptq"), DYNAMIC),
}
THEIRS = "ONNX Runtime's quantize_dynamic"
TEST_BATCHES = 8
SHAPES = ((384, 1536), (1536, 384), (1024, 1024), (256, 256))
ROWS = (1, 4, 16, 196)


def stored_files(steps: int) -> tuple[dict[str, bytes], Tensor]:
    """The files, and the held-out text."""
    learned, held_out, kinds = read_text()
    captured = capture(learn(learned, kinds, steps), torch.zeros(1, CONTEXT, dtype=torch.int64))
    model_map = read_model_map(captured)
    inputs = [[ids] for ids, _ in batches(learned, 8, seed=3)]
    graph, tensors = captured.graph, captured.tensors
    statistics = collect_statistics(graph, tensors, model_map.layers, inputs)
    database = Database(model_map, tensors, statistics, collect_ranges(graph, tensors, inputs))
    architecture = Architecture(name="", model_map=model_map, knobs=())
    linear = [layer.name for layer in model_map.layers if layer.kind == "linear"]
    files = {}
    for name, (choice, segment) in WAYS.items():
        candidate = Candidate.of(
            layers=dict.fromkeys(linear, choice),
            segments={each.name: segment for each in model_map.segments},
        )
        model = assemble(canonical(architecture, candidate), database)
        files[name] = lower(model).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "float.onnx", Path(folder) / "made.onnx"
        source.write_bytes(files["float"])
        kinds_of_weights = {"weight_type": QuantType.QInt8, "per_channel": True}
        quantize_dynamic(
            str(source), str(made), op_types_to_quantize=["MatMul"], **kinds_of_weights
        )
        files[THEIRS] = made.read_bytes()
    return files, held_out


def losses(file: bytes, held_out: Tensor) -> np.ndarray:
    """Mean loss of each held-out context, in nats a character."""
    running = session(file, exact=True)
    (read,) = (each.name for each in running.get_inputs())
    found = []
    for inputs, targets in batches(held_out, TEST_BATCHES, seed=2):
        for ids, following in zip(inputs, targets, strict=True):
            (logits,) = running.run(None, {read: ids[None].numpy()})
            chances = torch.from_numpy(logits[0]).log_softmax(-1)
            found.append(float(-chances.gather(1, following[:, None]).mean()))
    return np.array(found)


def compare_files(steps: int) -> None:
    """Prints a row for each file."""
    files, held_out = stored_files(steps)
    found = {name: losses(file, held_out) for name, file in files.items()}
    measured = measure_latencies(list(files.values()), instances=6, blocks=40)
    times = dict(zip(files, (each.mean_s for each in measured), strict=True))
    print(f"{'':34}{'loss':>8}{'rise':>10}{'error':>8}{'bytes':>9}{'times as fast':>15}")
    for name, file in files.items():
        rise = found[name] - found["float"]
        error = rise.std() / len(rise) ** 0.5
        row = f"{name:34}{found[name].mean():8.4f}{rise.mean():+10.4f}{error:8.4f}{len(file):9,}"
        print(f"{row}{times['float'] / times[name]:15.2f}", flush=True)


def layer_file(inputs: int, outputs: int, rows: int, way: str) -> bytes:
    """A single linear layer as ONNX, with random codes."""
    captured = capture(nn.Linear(inputs, outputs).eval(), torch.zeros(1, rows, inputs))
    model_map = read_model_map(captured)
    choice, segment = WAYS[way]
    candidate = Candidate.of(
        layers={layer.name: choice for layer in model_map.layers},
        segments={each.name: segment for each in model_map.segments},
    )
    return bytes(lower(imagine(draft(model_map, candidate), seed=0)).SerializeToString())


def time_layers() -> None:
    """Prints how many times as fast as float each layer is."""
    ways = ("float", "8-bit weights, static", "8-bit weights, dynamic", "4-bit weights, dynamic")
    print(f"\n{fingerprint(1)}\n{'linear layer':16}{'rows':>5}", end="")
    print(*(f"{way:>24}" for way in ways[1:]))
    for inputs, outputs in SHAPES:
        for rows in ROWS:
            files = [layer_file(inputs, outputs, rows, way) for way in ways]
            times = [each.mean_s for each in measure_latencies(files, instances=3, blocks=40)]
            gains = "".join(f"{times[0] / seconds:25.2f}" for seconds in times[1:])
            print(f"{inputs:>6} x {outputs:<7}{rows:5}{gains}", flush=True)


def main() -> None:
    """Reads the arguments and prints both tables."""
    arguments = read_arguments(__doc__)
    torch.set_num_threads(1)
    if not arguments.timing_only:
        compare_files(arguments.steps)
    time_layers()


if __name__ == "__main__":
    main()
