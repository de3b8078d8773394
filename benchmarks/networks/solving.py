"""Time and peak memory of a network's statistics, and of its layers at 8 and 4 bits.

    PAREDOWN_DATA=... python benchmarks/networks/solving.py NAME [--threads 2]

NAME is a config of this folder. What a search does before its first candidate: statistics of all layers
on the calibration rows, with the loss's gradients, then every layer rounded to 8 bits, and to 4 bits by
GPTQ with one scale a row and, where it may have more, one for every 64 inputs. Nothing is taken from the
cache. Exit code 1 above 6 minutes, or above 6 GB resident.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from paredown.compressors.layers import Database
from paredown.hardware_models.timing import fingerprint
from paredown.search.config import load_config
from paredown.search.evaluating import survey
from paredown.spaces.candidates import GROUPED_KINDS, LayerChoice, Method
from paredown.spaces.structure import Layer

FOLDER = Path(__file__).parent
MOST_S = 360.0
MOST_BYTES = 6e9
GROUP = 64


def choices(layer: Layer, bits: int) -> Iterator[LayerChoice]:
    """What a layer is asked for at this width."""
    method: Method = "rtn" if bits == 8 or layer.kind == "embedding" else "gptq"
    yield LayerChoice(weight_bits=bits, method=method)
    if method == "gptq" and layer.kind in GROUPED_KINDS and layer.weight_shape[1] > GROUP:
        yield LayerChoice(weight_bits=bits, method=method, group_size=GROUP)


def peak_bytes() -> float:
    """The most that this process has held resident, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def measured(name: str) -> float:
    """Seconds of statistics and of solving together, printed one by one with the peaks."""
    surveyed = survey(load_config(FOLDER / f"{name}.yaml"))
    architecture = surveyed.space.architectures[0]
    captured, layers = surveyed.captured[architecture.name], architecture.model_map.layers
    weights = sum(layer.weight_count for layer in layers)
    print(f"{name}: {len(layers)} layers, {weights:,} weights; read, {peak_bytes() / 1e9:.2f} GB")
    clock, used = time.perf_counter(), time.process_time()

    def _lap(what: str) -> float:
        nonlocal clock, used
        seconds, cpu_s = time.perf_counter() - clock, time.process_time() - used
        print(
            f"{what:34}{seconds:8.1f} s by the clock{cpu_s:8.1f} s of the processor, "
            f"peak so far {peak_bytes() / 1e9:.2f} GB",
            flush=True,
        )
        clock, used = time.perf_counter(), time.process_time()
        return seconds

    found = surveyed.collected.of(architecture.name)
    seconds = _lap("statistics")
    database = Database(architecture.model_map, captured.tensors, found.statistics, found.ranges)
    for bits in (8, 4):
        asked = [(layer, choice) for layer in layers for choice in choices(layer, bits)]
        for layer, choice in asked:
            database.solution(layer, choice, {})
        seconds += _lap(f"{len(asked)} solutions at {bits} bits")
    return seconds


def main() -> int:
    """Prints the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(each.stem for each in FOLDER.glob("*.yaml")))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(fingerprint(arguments.threads))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PAREDOWN_CACHE"] = cache
        seconds = measured(arguments.name)
    print(
        f"together {seconds:.0f} s (at most {MOST_S:.0f}), {peak_bytes() / 1e9:.2f} GB "
        f"(at most {MOST_BYTES / 1e9:.0f})"
    )
    return int(seconds > MOST_S or peak_bytes() > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
