"""Predicted memory of weights against what a process takes when it loads a model.

    python benchmarks/storage/weight_memory.py [NAME ...]

Large layers of every kind, each as floats, in 8 bits throughout, and with narrow weights beside float
or 8-bit activations. Measured is how much private memory of a fresh process grows when it makes a
session, less the growth for a model of the same graph with a sixteenth of the weights, over
the difference in weights. Bytes for each weight in the file, predicted and measured in memory; exit
code 1 where a prediction is more than 5 % off.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from paredown.compressors.onnx import lower
from paredown.hardware_models.devices import host_device
from paredown.hardware_models.memory import weight_memory_bytes
from paredown.hardware_models.work import read_work
from paredown.search.calibrating import imagine
from paredown.spaces.candidates import Blueprint, Candidate, LayerChoice, SegmentChoice, draft
from paredown.spaces.capture import capture
from paredown.spaces.structure import read_model_map

LARGEST_ERROR = 0.05
ENDS = 64
"""Channels before and behind: with fewer, kernels pad what they read to a multiple of 64."""

_CHILD = """
import ctypes, sys
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
# The arena takes memory in doubling steps; what a session needs would drown in what it reserves.
options.enable_cpu_mem_arena = False
trim = ctypes.CDLL("libc.so.6").malloc_trim
def private_bytes():
    trim(0)
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(l.split()[1]) * 1024 for l in lines if l.startswith("Anonymous"))
def load(path):
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
small = load(sys.argv[1])
before = private_bytes()
large = load(sys.argv[2])
print(private_bytes() - before)
"""


class Between(nn.Module):
    """A layer between two small ones, so that it may compute on codes and give codes."""

    def __init__(self, first: nn.Module, layer: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.layer, self.last = first, layer, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.layer(torch.relu(self.first(x)))))


def _conv(width: int, kernel: int, groups: int = 1) -> tuple[nn.Module, Tensor]:
    layer = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups)
    between = Between(nn.Conv2d(ENDS, width, 1), layer, nn.Conv2d(width, ENDS, 1))
    return between, torch.randn(1, ENDS, 4, 4)


def _transposed(width: int) -> tuple[nn.Module, Tensor]:
    layer = nn.ConvTranspose2d(width, width, 2, stride=2)
    between = Between(nn.Conv2d(ENDS, width, 1), layer, nn.Conv2d(width, ENDS, 1))
    return between, torch.randn(1, ENDS, 4, 4)


def _linear(width: int, rows: int) -> tuple[nn.Module, Tensor]:
    between = Between(nn.Linear(ENDS, width), nn.Linear(width, width), nn.Linear(width, ENDS))
    return between, torch.randn(rows, ENDS)


def _tokens(width: int) -> tuple[nn.Module, Tensor]:
    between = Between(nn.Linear(ENDS, width), nn.Linear(width, width), nn.Linear(width, ENDS))
    return between, torch.randn(1, 16, ENDS)


LAYERS: Mapping[str, Callable[[int], tuple[nn.Module, Tensor]]] = {
    "conv 3x3": lambda scale: _conv(192 * scale, 3),
    "conv 1x1": lambda scale: _conv(512 * scale, 1),
    "conv grouped": lambda scale: _conv(256 * scale, 3, groups=2),
    "conv depthwise": lambda scale: _conv(2048 * scale**2, 15, groups=2048 * scale**2),
    "conv transposed": lambda scale: _transposed(256 * scale),
    "linear, one row": lambda scale: _linear(768 * scale, 1),
    "linear, 64 rows": lambda scale: _linear(768 * scale, 64),
    "linear, tokens": lambda scale: _tokens(768 * scale),
}
FORMATS: Mapping[str, tuple[LayerChoice, SegmentChoice]] = {
    "float": (LayerChoice(), SegmentChoice()),
    "w8a8": (LayerChoice(weight_bits=8), SegmentChoice(activation_bits=8)),
    "w4a8": (LayerChoice(weight_bits=4), SegmentChoice(activation_bits=8)),
    "w8": (LayerChoice(weight_bits=8), SegmentChoice()),
    "w4": (LayerChoice(weight_bits=4), SegmentChoice()),
    "w2": (LayerChoice(weight_bits=2), SegmentChoice()),
    "w4 fast": (LayerChoice(weight_bits=4), SegmentChoice(container="fast")),
}
BY_RANGE: Mapping[str, tuple[LayerChoice, SegmentChoice]] = {
    f"w{bits}a8 dynamic": (
        LayerChoice(weight_bits=bits),
        SegmentChoice(activation_bits=8, ranges="dynamic"),
    )
    for bits in (8, 4, 2)
}
"""Of linear layers alone, as are the next."""
BY_GROUP: Mapping[str, tuple[LayerChoice, SegmentChoice]] = {
    f"w{bits} by {size}": (LayerChoice(weight_bits=bits, group_size=size), SegmentChoice())
    for bits in (8, 4, 2)
    for size in (32, 128)
}
"""One scale for so many inputs."""


def blueprint_of(
    network: nn.Module, example: Tensor, choice: LayerChoice, how: SegmentChoice
) -> Blueprint:
    """The network with all its weights under `choice` and all its segments as `how` says."""
    model_map = read_model_map(capture(network.eval(), example))
    layers = {layer.name: choice for layer in model_map.layers}
    segments = {segment.name: how for segment in model_map.segments}
    return draft(model_map, Candidate.of(layers=layers, segments=segments))


def growth_bytes(small: Path, large: Path) -> int:
    """Private memory that a process takes on when it loads `large` beside `small`."""
    command = [sys.executable, "-c", _CHILD, str(small), str(large)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(LAYERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = host_device()
    worst = 0.0
    print(f"{'bytes a weight':18}{'':13}{'file':>8}{'predicted':>11}{'measured':>10}{'error':>8}")
    for name in arguments.names or LAYERS:
        formats = {**FORMATS, **BY_RANGE, **BY_GROUP} if name.startswith("linear") else FORMATS
        for kind, (choice, how) in formats.items():
            with tempfile.TemporaryDirectory() as folder:
                small, large = Path(folder) / "small.onnx", Path(folder) / "large.onnx"
                made = [blueprint_of(*LAYERS[name](scale), choice, how) for scale in (1, 4)]
                for path, blueprint in zip((small, large), made, strict=True):
                    path.write_bytes(lower(imagine(blueprint, seed=0)).SerializeToString())
                work = read_work(made[1])
                predicted = weight_memory_bytes(work, device)
                measured = growth_bytes(small, large)
                file_bytes = large.stat().st_size
            each = [size / work.weight_count for size in (file_bytes, predicted, measured)]
            error = predicted / measured - 1
            worst = max(worst, abs(error))
            row = f"{each[0]:8.3f}{each[1]:11.3f}{each[2]:10.3f}{error:8.1%}"
            print(f"{name:18}{kind:13}{row}", flush=True)
    print(f"largest error {worst:.1%}")
    return int(worst > LARGEST_ERROR)


if __name__ == "__main__":
    sys.exit(main())
