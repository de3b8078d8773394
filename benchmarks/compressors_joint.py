"""Zeros and codes together against one after the other: python benchmarks/compressors_joint.py

Five budgets of ResNet-20; within one all three models have the same bits and the same count of
nonzero weights, so the same packed_bytes. Everything else is the same solver (exact OBS, coordinate
descent). Losses are compared pairwise on the final 5,000 test images.
"""

from __future__ import annotations

import dataclasses

import torch
from paired import Bench, Outcome, open_bench

from paredown.compressors import methods
from paredown.compressors.descent import descend
from paredown.compressors.export.sizes import packed_file_bytes
from paredown.compressors.gptq import Target
from paredown.compressors.matrix import gram_diagonal
from paredown.compressors.methods import Compressed, Problem
from paredown.compressors.quantize import Codes
from paredown.compressors.sparsify import kept_count
from paredown.spaces.candidate import Candidate, LayerChoice

BUDGETS = ((2, 0.5), (2, 0.6), (2, 0.7), (3, 0.6), (3, 0.7))


def quantize_then_prune(problem: Problem, choice: LayerChoice) -> Compressed:
    """Codes first; then those go whose removal costs least at fixed codes; scales are refitted."""
    codes = descend(problem.matrix, problem.gram, choice.weight_bits)
    if choice.pattern == "dense":
        return Compressed(values=codes.codes, scale=codes.scale, mask=None)
    value = codes.dense().double()
    score = value.square() * gram_diagonal(problem.gram, len(value))
    score = score * problem.row_scale().square().unsqueeze(1)
    kept = kept_count((value.shape[0], value.shape[1]), choice.sparsity, choice.pattern)
    order = score.flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(value.numel(), dtype=torch.bool)
    mask[order[:kept]] = True
    mask = mask.view(value.shape)
    left = Codes(codes=codes.codes * mask, scale=codes.scale)
    fitted = Target.of(problem.matrix, problem.gram).refit(left).codes
    return Compressed(values=fitted.codes, scale=fitted.scale, mask=mask)


def solved(bench: Bench, choice: LayerChoice) -> tuple[Outcome, int]:
    """Outcome and packed bytes; a database of its own, as methods are exchanged under one name."""
    database = bench.database
    own = type(database)(database.model_map, database.tensors, database.statistics, {})
    bench = dataclasses.replace(bench, database=own)
    model = bench.assemble(bench.candidate(choice))
    return bench.outcome(model), packed_file_bytes(model.blueprint)


def main() -> None:
    """Prints one block for each budget."""
    bench = open_bench()
    dense = bench.outcome(bench.assemble(Candidate.of()))
    print(f"uncompressed {dense.text(dense)}", flush=True)
    originals = dict(methods.METHODS)
    for bits, sparsity in BUDGETS:
        orders = {
            "prune, quantise": originals["descent"],
            "quantise, prune": quantize_then_prune,
            "jointly": originals["joint"],
        }
        found = {}
        for label, solver in orders.items():
            methods.METHODS = {**originals, "joint": solver}
            choice = LayerChoice(
                weight_bits=bits, sparsity=sparsity, pattern="element", method="joint"
            )
            found[label], size = solved(bench, choice)
            text = found[label].text(dense)
            print(f"{bits} bits, {sparsity:.0%} zeros  {label:16s}{size} B  {text}", flush=True)
        for label in ("prune, quantise", "quantise, prune"):
            gain = found[label].losses - found["jointly"].losses
            error = float(gain.std()) / len(gain) ** 0.5
            print(f"    jointly gains {float(gain.mean()):+.4f} ± {error:.4f} on {label}")


if __name__ == "__main__":
    main()
