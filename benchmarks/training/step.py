"""What a training step of a compressed ResNet-20 costs, as a multiple of a plain step in floats.

    python benchmarks/training/step.py [--rounds 9] [--rows 128] [--bits 2] [--activations lsq]
        [--precision float32] [--norms folded]

The network of CIFAR-10 with all weights at `--bits` and 8-bit activations, for each quantiser, against
the same network uncompressed: forward, labels' loss, backward, AdamW and what the quantiser does after
it, without a teacher, on one thread. `--precision bfloat16` computes the layers of all of them in it.
Times are medians of processor time, one step of each in turn. Memory is by how much a fresh process
grows at its peak over three steps. Weights and images are random.
Exit code 1 if `lsq` costs more than 1.6 times the time or 3 times the memory.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from paredown.compressors.training import Trainable, View
from paredown.compressors.training.quantizers import QUANTIZERS
from paredown.search.calibrating import imagine
from paredown.search.tasks.cifar10 import resnet
from paredown.spaces.candidates import Candidate, LayerChoice, SegmentChoice, draft
from paredown.spaces.capture import capture
from paredown.spaces.structure import ModelMap, read_model_map

MOST_TIME, MOST_MEMORY = 1.6, 3.0
PLAIN = "plain"
_LR = 1e-4


@functools.cache
def _network() -> ModelMap:
    return read_model_map(capture(resnet("resnet20"), torch.zeros(1, 3, 32, 32)))


def stepping(kind: str, arguments: argparse.Namespace) -> Callable[[], None]:
    """A function that carries out one step, of the quantiser named or in floats."""
    torch.set_num_threads(1)
    model_map = _network()
    candidate = Candidate()
    if kind != PLAIN:
        layers = {x.name: LayerChoice(weight_bits=arguments.bits) for x in model_map.layers}
        coded = SegmentChoice(activation_bits=8)
        candidate = Candidate.of(
            layers=layers, segments={s.name: coded for s in model_map.segments}
        )
    quantizer = "lsq" if kind == PLAIN else kind
    view = View(quantizer=quantizer, activations=arguments.activations, norms=arguments.norms)
    trainable = Trainable(imagine(draft(model_map, candidate), seed=0), view)
    optimizer = torch.optim.AdamW(
        [{"params": [x.parameter], "lr": _LR * x.unit} for x in trainable.learned()], foreach=True
    )
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(arguments.rows, 3, 32, 32, generator=draw)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (arguments.rows,), generator=draw)

    def _step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bfloat16"):
            logits = trainable([images])[0]
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        trainable.after_step()

    return _step


def peak_bytes(kind: str, arguments: argparse.Namespace) -> int:
    """Bytes by which the resident size of this process grows at its peak over three steps."""
    step = stepping(kind, arguments)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    for _ in range(3):
        step()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def _median_s(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {kind: [] for kind in steps}
    for _ in range(rounds):
        for kind, step in steps.items():
            begun_s = time.thread_time()
            step()
            found[kind].append(time.thread_time() - begun_s)
    return {kind: statistics.median(times_s[1:]) for kind, times_s in found.items()}


def main() -> int:
    """Prints a line for each kind; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--bits", type=int, default=2)
    parser.add_argument("--activations", choices=("fixed", "lsq", "pact"), default="lsq")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--norms", choices=("folded", "live"), default="folded")
    arguments = parser.parse_args()
    kinds = (PLAIN, *QUANTIZERS)
    seconds = _median_s({k: stepping(k, arguments) for k in kinds}, arguments.rounds)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {k: pool.apply(peak_bytes, (k, arguments)) for k in kinds}
    print(f"{'':8}{'seconds':>9}{'of plain':>10}{'peak MB':>9}{'of plain':>10}")
    for kind in kinds:
        time_ratio, memory_ratio = seconds[kind] / seconds[PLAIN], peaks[kind] / peaks[PLAIN]
        row = f"{kind:8}{seconds[kind]:9.3f}{time_ratio:10.2f}"
        print(f"{row}{peaks[kind] / 1e6:9.1f}{memory_ratio:10.2f}")
    is_slow = seconds["lsq"] > MOST_TIME * seconds[PLAIN]
    return int(is_slow or peaks["lsq"] > MOST_MEMORY * peaks[PLAIN])


if __name__ == "__main__":
    sys.exit(main())
