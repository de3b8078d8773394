"""Predicted peak memory of activations against ONNX Runtime's own counters, on the tests' CNNs.

    python benchmarks/storage/peak_memory.py [--candidates 4] [NAME ...]

Per network the float model, the all-8-bit one and random candidates. Relative errors of two
predictors against the counters: the runtime's own layouts and sharing (what a search on an ONNX
Runtime device uses), and plain liveness of the graph (what microcontrollers get). Workspaces that a
kernel takes and gives back are counted by neither. Needs x86 with AVX2 or AVX-512: exit code 1 if
the median error of the first predictor exceeds 15 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from types import ModuleType

import torch
from networks import load_tests

from paredown.compressors.onnx import lower
from paredown.hardware_models.devices import host_device
from paredown.hardware_models.memory import measure_memory, peak_activation_bytes
from paredown.search.calibrating import imagine
from paredown.spaces.candidates import Candidate, LayerChoice, SegmentChoice, draft
from paredown.spaces.capture import capture
from paredown.spaces.structure import ModelMap, read_model_map

MEDIAN_ERROR = 0.15


def candidates(
    model_map: ModelMap, chain: ModuleType, count: int
) -> Iterator[tuple[str, Candidate]]:
    """The float model, those in 8 bits of static and of dynamic ranges, and `count` random ones."""
    yield "float", Candidate()
    ways = {"int8": SegmentChoice(activation_bits=8)}
    if any(layer.kind == "linear" for layer in model_map.layers):
        ways["dynamic"] = SegmentChoice(activation_bits=8, ranges="dynamic")
    for name, way in ways.items():
        layers = {layer.name: LayerChoice(weight_bits=8) for layer in model_map.layers}
        yield name, Candidate.of(layers=layers, segments={s.name: way for s in model_map.segments})
    for seed in range(count):
        yield "random", chain.random_candidate(model_map, seed, None)


def main() -> int:
    """Prints a line per model and the medians; returns the exit code."""
    zoo, chain = load_tests("zoo"), load_tests("chain")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(zoo.CNNS))
    parser.add_argument("--candidates", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = host_device()
    errors: dict[str, list[float]] = {}
    liveness: list[float] = []
    print(
        f"{'':18}{'':8}{'counters':>10}{'predicted':>11}{'error':>8}{'liveness':>10}{'error':>8}"
    )
    for name in arguments.names or zoo.CNNS:
        build, example = zoo.ZOO[name]
        model_map = read_model_map(capture(build(), example(1)))
        for kind, candidate in candidates(model_map, chain, arguments.candidates):
            blueprint = draft(model_map, candidate)
            model = lower(imagine(blueprint, seed=0)).SerializeToString()
            counted = measure_memory(model).peak_bytes
            predicted = peak_activation_bytes(blueprint, device).planned_bytes
            plain = peak_activation_bytes(blueprint).planned_bytes
            error, plain_error = predicted / counted - 1, plain / counted - 1
            errors.setdefault(kind, []).append(abs(error))
            liveness.append(abs(plain_error))
            row = f"{name:18}{kind:8}{counted:10}{predicted:11}{error:8.1%}{plain:10}"
            print(f"{row}{plain_error:8.1%}", flush=True)
    everything = [error for found in errors.values() for error in found]
    for kind, found in {**errors, "all": everything}.items():
        print(f"{kind}: median error {statistics.median(found):.1%} of {len(found)} models")
    print(f"plain liveness: median error {statistics.median(liveness):.1%}")
    return int(statistics.median(everything) > MEDIAN_ERROR)


if __name__ == "__main__":
    sys.exit(main())
