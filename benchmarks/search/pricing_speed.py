"""How many candidates are priced in a second, by each kind of latency model.

    PAREDOWN_DATA=... python benchmarks/search/pricing_speed.py [CONFIG]

Compiles the config's space under the roofline, a calibrated and a table model, prices a random
population of 200,000, and times one candidate of a network of a hundred convolutions from its work.
Prints processor seconds, so other work on the machine does not count; exit code 1 below 100,000
candidates a second or above one millisecond.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from torch import nn

from paredown.hardware_models.latency import (
    PRODUCTS,
    AdditiveLatency,
    CalibratedLatency,
    ErrorBounds,
    RooflineLatency,
    TableEntry,
    naive_table,
    signature,
)
from paredown.hardware_models.pricing import CompiledSpace
from paredown.hardware_models.work import PARTS, Work, read_work
from paredown.search.config import load_config
from paredown.search.evaluating import survey
from paredown.spaces.candidates import Candidate, draft
from paredown.spaces.capture import capture
from paredown.spaces.structure import read_model_map

POPULATION = 200_000
LEAST_PER_S, LONGEST_S = 100_000, 1e-3


def deep_work(layers: int = 100) -> Work:
    """The work of `layers` convolutions with a ReLU each."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model_map = read_model_map(capture(nn.Sequential(*modules).eval(), torch.randn(1, 16, 8, 8)))
    return read_work(draft(model_map, Candidate()))


def seconds_of_one(model: AdditiveLatency, work: Work) -> float:
    """Processor seconds of one prediction: the median of nine rounds of twenty."""
    rounds_s = []
    for _ in range(9):
        started = time.process_time()
        for _ in range(20):
            model.predict(work)
        rounds_s.append((time.process_time() - started) / 20)
    return statistics.median(rounds_s)


def main() -> int:
    """Prints a row for each latency model; 1 where one is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="examples/cifar10_resnet20.yaml")
    config = parser.parse_args().config
    torch.set_num_threads(1)
    surveyed = survey(load_config(config))
    space, device = surveyed.space, surveyed.device
    preset = RooflineLatency(device)
    work = read_work(draft(space.architectures[0].model_map, space.decode({})))
    seconds = preset.operators_s(work)
    entries = {
        signature(op): TableEntry(signature=signature(op), seconds=float(s), preset_s=float(s))
        for op, s in zip(work.operators, seconds, strict=True)
        if op.kind in PRODUCTS
    }
    calibrated = CalibratedLatency(
        device=device, threads=1, factors=(1.5,) * len(PARTS),
        bounds=ErrorBounds(seconds=(0.1, 0.1, 0.1)), held_out_mape=0.05, networks=40,
        fingerprint="benchmark",
    )  # fmt: skip
    models: dict[str, AdditiveLatency] = {
        "roofline": preset,
        "calibrated": calibrated,
        "table": naive_table(preset, list(entries.values()), "benchmark"),
    }
    deep = deep_work()
    slow = False
    for name, model in models.items():
        compiled = CompiledSpace(space, model, lambda c: read_work(draft(space.model_map(c), c)))
        started = time.process_time()
        compiled.compile()
        population = compiled.draw(POPULATION, seed=1)
        compiled.predict_many(population)
        compiling_s = time.process_time() - started
        started = time.process_time()
        compiled.predict_many(population)
        rate = POPULATION / (time.process_time() - started)
        one_s = seconds_of_one(model, deep)
        slow = slow or rate < LEAST_PER_S or one_s > LONGEST_S
        print(
            f"{name:12}{rate:12,.0f} candidates/s (compiled in {compiling_s:.1f} s)   "
            f"{one_s * 1e3:.2f} ms for one of {len(deep.operators)} operators",
            flush=True,
        )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
