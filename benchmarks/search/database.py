"""What the database of solutions and one candidate cost in time, against a bare forward pass.

    PAREDOWN_DATA=... python benchmarks/search/database.py [PART ...]

Needs PAREDOWN_DATA (CIFAR-10 and ResNet-20 weights). Three parts, each against its target:

* every choice of the default database of ResNet-20 solved by two processes, statistics included, and
  all of it read back by a third (target: 60 s);
* the linear layers of a transformer encoder with 21 million weights (12 blocks, width 384, random
  weights, 196 tokens, 512 samples): one block is solved, the others are alike (target: 10 minutes);
  the part `whole-encoder`, which only runs when it is named, solves all twelve;
* candidates assembled and scored on 1,500 images, beside a bare forward pass of the uncompressed
  graph over the same batches (target: 1.5 times). One that is refitted has every layer pruned and
  quantised again, for the inputs that it really gets: it is held against the target without that.

Processes use one thread each; the encoder's statistics, made by one process, use two. Name a part
to run it alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paredown.compressors.layers import Database
from paredown.compressors.statistics import CalibrationData, calibrate, summed_cross_entropy
from paredown.compressors.storage import Shelf
from paredown.search.config import load_config
from paredown.search.evaluating import Evaluator, channels_last
from paredown.search.study import Rung
from paredown.search.tasks import Task, load_task
from paredown.spaces.candidates import Candidate, LayerChoice, Rank, SegmentChoice, Zeros
from paredown.spaces.capture import Captured, as_inputs, capture
from paredown.spaces.graph import run
from paredown.spaces.structure import ModelMap, read_model_map

CONFIG = Path(__file__).parents[2] / "examples" / "cifar10_packed.yaml"
BITS, SPARSITIES, METHODS = (2, 3, 4, 5, 6, 8), (0.0, 0.25, 0.5, 0.75), ("rtn", "gptq")
RANKS = tuple(product((0.5, 0.25), (32, 8, 4)))
BLOCKS, WIDTH, TOKENS = 12, 384, 196
ROWS, BATCH, REPEATS = 1500, 32, 3
GIB = 2**30


def choices() -> list[LayerChoice]:
    """The default database: bits x sparsity x method, and ranks by whitened SVD."""
    found = [
        LayerChoice(
            weight_bits=bits,
            zeros=Zeros(sparsity, "element" if sparsity else "dense"),
            method=method,
        )
        for bits, sparsity, method in product(BITS, SPARSITIES, METHODS)
    ]
    return found + [
        LayerChoice(weight_bits=bits, rank=Rank(rank), method="gptq") for rank, bits in RANKS
    ]


def with_exact_obs() -> list[LayerChoice]:
    """And zeros by exact OBS, whose time grows with the cube of the fan-in."""
    zeros = [LayerChoice(zeros=Zeros(s, "element"), method="obq") for s in SPARSITIES if s]
    return choices() + zeros


def solve_layer(
    database: Database, name: str, asked: Callable[[], list[LayerChoice]] = with_exact_obs
) -> tuple[str, float]:
    """Every choice of one layer, solved or read; the processor seconds it took."""
    torch.set_num_threads(1)
    layer = database.model_map.layer_by_name[name]
    started = time.process_time()
    for choice in asked():
        database.solution(layer, choice, {})
    return name, time.process_time() - started


def solve_all(
    database: Database,
    names: list[str],
    asked: Callable[[], list[LayerChoice]],
    workers: int = 2,
) -> tuple[float, float]:
    """Seconds that `workers` processes need for the layers, widest first; and processor seconds.

    On a machine with other work only the second figure can be compared.
    """
    layers = database.model_map.layer_by_name
    order = sorted(names, key=lambda name: -layers[name].weight_count)
    started = time.perf_counter()
    total = 0.0
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for name, seconds in pool.map(solve_layer, repeat(database), order, repeat(asked)):
            total += seconds
            print(f"    {name:20s} {layers[name].weight_shape!s:18s} {seconds:6.1f} s")
    return time.perf_counter() - started, total


def calibration_batches(task: Task, captured: Captured) -> list[list[Tensor]]:
    return [as_inputs(captured.graph, i) for i, _ in task.splits.calibration.batches(64, 512)]


def make_database(
    captured: Captured, model_map: ModelMap, batches: list[list[Tensor]], folder: Path
) -> tuple[Database, float]:
    """The database and the processor seconds that its statistics took."""
    data = CalibrationData(
        batches=batches, targets=None, loss=summed_cross_entropy, loss_digest="", seed=0
    )
    started = time.process_time()
    shelf = Shelf(folder / "statistics", GIB)
    found = calibrate(captured.graph, captured.tensors, model_map.layers, data, shelf)
    seconds = time.process_time() - started
    solutions = Shelf(folder / "solutions", 4 * GIB)
    made = Database(model_map, captured.tensors, found.statistics, found.ranges, shelf=solutions)
    return made, seconds


def resnet(folder: Path) -> None:
    task = load_task(load_config(CONFIG))
    captured = capture(task.module, task.example)
    model_map = read_model_map(captured)
    batches = calibration_batches(task, captured)
    database, collecting = make_database(captured, model_map, batches, folder)
    names = [layer.name for layer in model_map.layers]
    print(f"ResNet-20: {len(names)} layers x {len(with_exact_obs())} choices")
    elapsed, solving = solve_all(database, names, with_exact_obs)
    held = sum(path.stat().st_size for path in (folder / "solutions").iterdir())
    again, reading = make_database(captured, model_map, batches, folder)
    finding = sum(solve_layer(again, name)[1] for name in names)
    assert not again.solved, "everything must have been found"
    on_two = collecting + solving / 2
    print(
        f"  processor: statistics {collecting:.1f} s, solutions {solving:.1f} s in two processes"
    )
    print(f"  on two idle cores {on_two:.1f} s (target 60 s); {held / 1e6:.1f} MB on disk")
    print(f"  solutions by the clock {elapsed:.1f} s, whatever else was running")
    print(f"  found again by another: statistics {reading:.2f} s, solutions {finding:.2f} s")


class Block(nn.Module):
    """A pre-norm block of a transformer encoder, without heads' reshaping."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.proj(weights @ v)
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class Encoder(nn.Sequential):
    """`depth` blocks and the mean over tokens."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__(*(Block(width) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(dim=1)


def encoder(folder: Path, depth: int) -> None:
    torch.manual_seed(0)
    captured = capture(Encoder(WIDTH, depth).eval(), torch.zeros(1, TOKENS, WIDTH))
    model_map = read_model_map(captured)
    mix = torch.randn(WIDTH, WIDTH) / WIDTH**0.5
    batches = [[torch.randn(32, TOKENS, WIDTH) @ mix] for _ in range(16)]
    torch.set_num_threads(2)
    started = time.perf_counter()
    database, processor = make_database(captured, model_map, batches, folder / f"encoder{depth}")
    collecting = time.perf_counter() - started
    torch.set_num_threads(1)
    weights = sum(layer.weight_count for layer in model_map.layers)
    print(f"encoder: {depth} of {BLOCKS} blocks, {weights / 1e6:.1f} million weights")
    elapsed, solving = solve_all(database, [layer.name for layer in model_map.layers], choices)
    print(
        f"  statistics of 512 samples {collecting:.1f} s by the clock with two threads "
        f"({processor:.1f} s of processor)"
    )
    print(
        f"  solutions {solving:.1f} s of processor in two processes ({elapsed:.1f} s by the clock)"
    )
    share = BLOCKS / depth
    said = "" if depth == BLOCKS else ", estimated"
    print(
        f"  {BLOCKS} blocks on two idle cores{said}: {share * (collecting + solving / 2) / 60:.1f} "
        f"min; by the clock {share * (collecting + elapsed) / 60:.1f} min (target 10 min)"
    )


def scoring(folder: Path) -> None:
    task = load_task(load_config(CONFIG))
    captured = capture(task.module, task.example)
    model_map = read_model_map(captured)
    batches = calibration_batches(task, captured)
    database, _ = make_database(captured, model_map, batches, folder)
    calibration = [channels_last(torch.cat([batch[0] for batch in batches]))]
    evaluator = Evaluator(
        databases={"": database},
        split=task.splits.search,
        metric=task.metric,
        loss=task.loss,
        calibration=calibration,
    )
    rows = min(ROWS, len(task.splits.search))

    def bare() -> None:
        with torch.no_grad():
            for inputs, _ in task.splits.search.batches(BATCH, rows):
                prepared = [channels_last(x) for x in as_inputs(captured.graph, inputs)]
                run(captured.graph, captured.tensors, prepared)

    candidates = scored_candidates(model_map)
    for candidate in candidates.values():
        evaluator.assemble(candidate)  # solved, as any candidate's layers soon are
    actions: dict[str, Callable[[], Any]] = {"bare forward pass": bare}
    for label, candidate in candidates.items():
        actions[label] = lambda c=candidate: evaluator.evaluate(c, Rung(rows=rows))
        actions[f"  of it assembling: {label}"] = lambda c=candidate: evaluator.assemble(c)
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(REPEATS):
        for label, action in actions.items():
            started = time.perf_counter()
            action()
            best[label] = min(best[label], time.perf_counter() - started)
    print(f"scoring on {rows} images, one thread, best of {REPEATS} interleaved (target 1.5)")
    for label, seconds in best.items():
        print(f"  {label:52s} {seconds:6.3f} s  {seconds / best['bare forward pass']:.2f}")


def scored_candidates(model_map: ModelMap) -> dict[str, Candidate]:
    def uniform(choice: LayerChoice, activation_bits: int = 32) -> Candidate:
        setting = SegmentChoice(activation_bits=activation_bits)
        return Candidate.of(
            layers={layer.name: choice for layer in model_map.layers},
            segments={s.name: setting for s in model_map.segments} if activation_bits == 8 else {},
        )

    sparse = LayerChoice(weight_bits=4, zeros=Zeros(0.5, "element"), method="gptq")
    return {
        "4-bit weights": uniform(LayerChoice(weight_bits=4, method="gptq")),
        "8-bit weights and activations": uniform(LayerChoice(weight_bits=8, method="gptq"), 8),
        "4-bit, half sparse (refitted)": uniform(sparse),
    }


def main() -> None:
    """Runs the parts that were named, or the first three."""
    parts: dict[str, Callable[[Path], None]] = {
        "resnet": resnet,
        "encoder": partial(encoder, depth=1),
        "scoring": scoring,
        "whole-encoder": partial(encoder, depth=BLOCKS),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    names = parser.parse_args().parts or list(parts)[:3]
    if "PAREDOWN_DATA" not in os.environ:
        sys.exit("PAREDOWN_DATA must name the folder with cifar10_jpeg/ and weights/")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
