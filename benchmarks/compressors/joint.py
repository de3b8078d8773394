"""Zeros and codes chosen together, against one after the other in either order, on ResNet-20.

    PAREDOWN_DATA=... python benchmarks/compressors/joint.py [BUDGET ...]

Five budgets of ResNet-20. Within one, all models have the same bits and the same count of nonzero
weights in every layer, so the same packed_bytes, which is checked. Both orders compensate:

* exact OBS, then GPTQ on what is left (and the stronger coordinate descent in its place);
* GPTQ (coordinate descent), then exact OBS decides what goes, and the codes that stay are set anew by
  coordinate descent.

Layers are as their solvers left them for dense inputs: the search's own second pass, which solves them
again for the inputs they get, would blur the orders. Printed for each: the predicted rise of the loss
summed over layers (curvature-weighted error, K-FAC), and the loss on images of the search split, paired.
Name budgets by number to run them alone: 0 2 4.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from paired import Bench, Outcome, open_bench
from torch import Tensor

from paredown.compressors.layers import Compressed, Problem, Solver, methods
from paredown.compressors.models import assemble
from paredown.compressors.onnx import packed_file_bytes
from paredown.compressors.pruning import Paths, exact_obs, zeros_among
from paredown.compressors.rounding import Codes, Target, descend, gptq
from paredown.spaces.candidates import Candidate, LayerChoice, Zeros, kept_count

BUDGETS = ((2, 0.5), (2, 0.6), (2, 0.7), (3, 0.6), (3, 0.7))
IMAGES = 2500
PATHS = Paths()
"""Pruning paths that the orders of one budget share: of every layer, dense and in each one's codes."""

Quantize = Callable[[Target, int, Tensor | None], Codes]


def prune_then(quantize: Quantize) -> Solver:
    """Exact OBS with rows weighed by the loss, then codes for what is left."""

    def solve(problem: Problem, choice: LayerChoice) -> Compressed:
        target, mask = problem.target, None
        if choice.zeros.pattern != "dense":
            sparsity, pattern = choice.zeros.share, choice.zeros.pattern
            pruned, mask = exact_obs(problem.scaled(), sparsity, pattern, problem.paths)
            matrix = (pruned / problem.row_scale().unsqueeze(1)).float()
            target = Target(matrix=matrix, gram=target.gram)
        return Compressed.of(quantize(target, choice.weight_bits, mask), mask)

    return solve


def then_prune(quantize: Quantize) -> Solver:
    """Codes first; exact OBS picks which of them go; the others are set anew, zeros standing."""

    def solve(problem: Problem, choice: LayerChoice) -> Compressed:
        if choice.zeros.pattern == "dense":
            return Compressed.of(quantize(problem.target, choice.weight_bits, None), None)
        scale, scaled = problem.row_scale(), problem.scaled()
        free = quantize(scaled, choice.weight_bits, None)
        kept = kept_count(*scaled.matrix.shape, choice.zeros.share, choice.zeros.pattern)
        codes, mask = zeros_among(scaled, choice.weight_bits, free, kept, problem.paths)
        return Compressed(values=codes.codes, scale=(codes.scale / scale).float(), mask=mask)

    return solve


ORDERS: dict[str, Solver] = {
    "OBS, then GPTQ": prune_then(gptq),
    "OBS, then descent": prune_then(descend),
    "GPTQ, then OBS": then_prune(gptq),
    "descent, then OBS": then_prune(descend),
    "jointly": methods.METHODS["joint"],
}


def solved(bench: Bench, choice: LayerChoice, solver: Solver) -> tuple[Outcome, float, int]:
    """Outcome, predicted rise of the loss, and packed bytes.

    The solver stands in for "joint"; a database of its own keeps solutions under one name apart.
    """

    def _sharing_paths(problem: Problem, choice: LayerChoice) -> Compressed:
        return solver(replace(problem, paths=PATHS), choice)

    methods.METHODS = {**methods.METHODS, "joint": _sharing_paths}
    shared = bench.database
    database = type(shared)(shared.model_map, shared.tensors, shared.statistics, {})
    model = assemble(bench.candidate(choice), database)
    rise = sum(database.damage(layer, choice, {}) for layer in shared.model_map.layers[1:-1])
    return bench.outcome(model, bench.search, IMAGES), rise, packed_file_bytes(model.blueprint)


def compare(bench: Bench, dense: Outcome, bits: int, sparsity: float) -> None:
    """Prints one budget: a line for each order, and the paired gain of working jointly."""
    choice = LayerChoice(weight_bits=bits, zeros=Zeros(sparsity, "element"), method="joint")
    found = {}
    sizes = set()
    for label, solver in ORDERS.items():
        found[label], rise, size = solved(bench, choice, solver)
        sizes.add(size)
        text = found[label].text(dense)
        print(f"{bits} bits, {sparsity:.0%} zeros  {label:18s}rise {rise:.4f}  {text}", flush=True)
    assert len(sizes) == 1, "one budget must be one size"
    print(f"    all {sizes.pop()} bytes packed; jointly gains in loss", end="")
    for label in list(ORDERS)[:-1]:
        gain = found[label].losses - found["jointly"].losses
        error = float(gain.std()) / len(gain) ** 0.5
        print(f"; on {label} {float(gain.mean()):+.4f} ± {error:.4f}", end="")
    print(flush=True)


def main() -> None:
    """Prints one block for each budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("budgets", nargs="*", type=int, default=range(len(BUDGETS)))
    budgets = parser.parse_args().budgets
    bench = open_bench()
    dense = bench.outcome(bench.assemble(Candidate.of()), bench.search, IMAGES)
    print(f"uncompressed, {IMAGES} images of the search split {dense.text(dense)}", flush=True)
    for number in budgets:
        compare(bench, dense, *BUDGETS[number])


if __name__ == "__main__":
    main()
