"""What one proposal of the ParetoSampler costs, its model's update included, as searches grow.

    python benchmarks/search/proposal_speed.py [--layers 20,100,500] [--evaluations 100,1000,10000]

An invented network: layers of four widths each, bytes that add up, damages that do nearly. So many
evaluations are learned, then batches of four are asked for and learned. Prints median and slowest time of
a proposal, and peak memory. Ends with exit code 1 where a median exceeds 50 ms.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time

import numpy as np

from paredown.search.proposing.pareto.expecting import Expectation
from paredown.search.proposing.pareto.problem import Choices, Damage, Prices
from paredown.search.study.evaluation import Goal

BITS = np.array([8.0, 4.0, 3.0, 2.0])
MOST_MS = 50.0
GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)


class Network:
    """Layers of lognormal sizes and sensitivities; accuracy saturates and is scored with noise."""

    def __init__(self, layers: int) -> None:
        self.generator = np.random.default_rng(layers)
        self.weights = self.generator.lognormal(9, 1, layers)
        self.harm = self.generator.lognormal(-3, 1, layers) / layers
        self.factor = self.generator.lognormal(0, 0.7, layers)
        self.choices = Choices(
            names=tuple(f"layer{i}" for i in range(layers)),
            sizes=(len(BITS),) * layers,
            ordered=(True,) * layers,
        )

    def prices(self, codes: np.ndarray) -> np.ndarray:
        """Bytes (n, 1)."""
        return (BITS[codes] @ self.weights)[:, None] / 8

    def damages(self, codes: np.ndarray) -> np.ndarray:
        """Damages (n, layers)."""
        return self.harm * (4.0 ** -BITS[codes] - 4.0 ** -BITS[0]) * 16

    def values(self, codes: np.ndarray) -> np.ndarray:
        """Accuracy and bytes (2,) of one candidate."""
        lost = 0.3 * np.tanh(float(self.damages(codes[None])[0] @ self.factor) / 3)
        noise = self.generator.normal(0, 0.003)
        return np.array([0.9 - lost + noise, self.prices(codes[None])[0, 0]])


def proposals_ms(layers: int, evaluations: int, batches: int) -> list[float]:
    """Milliseconds of each proposal of `batches` of four, behind so many evaluations."""
    network = Network(layers)
    whole = np.array([0.9, network.prices(np.zeros((1, layers), np.int64))[0, 0]])
    known = Expectation(
        choices=network.choices,
        prices=Prices(quick=network.prices),
        damage=Damage(terms=network.damages, kinds=("layer",) * layers),
        goals=GOALS,
        uncompressed=whole,
    )
    for codes in network.generator.integers(0, len(BITS), (evaluations, layers)):
        known.learn(codes, network.values(codes))
    next(known.best(np.zeros((0, layers), np.int64)))
    spent = []
    for _ in range(batches):
        asked: list[np.ndarray] = []
        for _ in range(4):
            started = time.perf_counter()
            codes, _ = next(known.best(np.array(asked, np.int64).reshape(-1, layers)))
            spent.append((time.perf_counter() - started) * 1e3)
            asked.append(codes)
        for codes in asked:
            started = time.perf_counter()
            known.learn(codes, network.values(codes))
            spent[-1] += (time.perf_counter() - started) * 1e3
    return spent


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", default="20,100,500")
    parser.add_argument("--evaluations", default="100,1000,10000")
    parser.add_argument("--batches", type=int, default=10)
    arguments = parser.parse_args()
    slow = False
    print(f"{'layers':>7} {'evaluations':>12} {'median ms':>10} {'slowest ms':>11} {'peak MB':>8}")
    for layers in map(int, arguments.layers.split(",")):
        for evaluations in map(int, arguments.evaluations.split(",")):
            spent = proposals_ms(layers, evaluations, arguments.batches)
            median = statistics.median(spent)
            slow |= median > MOST_MS
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{layers:>7} {evaluations:>12} {median:>10.1f} {max(spent):>11.1f} {peak:>8.0f}"
            )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
