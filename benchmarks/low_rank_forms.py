"""Three low-rank forms of ResNet-20's 3x3 convolutions: python benchmarks/low_rank_forms.py

For each share of the weights, every convolution but the first takes, in each form, the largest ranks
that hold no more than the share. First the output energy that each layer loses, by form, and by the
plain (unwhitened) factors of the same shape; then accuracy on the search split as a paired difference
to the uncompressed model, output moments restored layer by layer, and bytes of the packed file: in
float, and with codes of 4 bits by gptq. Above them stand whole layers of fewer bits. With `--rows N`
on N images.
"""

from __future__ import annotations

import argparse
from typing import get_args

import torch
from paired import Bench, Outcome, open_bench
from torch import Tensor

from paredown.compressors.export.sizes import packed_file_bytes
from paredown.compressors.low_rank import compose, factorize
from paredown.compressors.matrix import row_errors, to_matrix
from paredown.spaces.candidate import Candidate, Decomposition, LayerChoice
from paredown.spaces.factors import Chain, factor_chain, weight_count
from paredown.spaces.model_map import Layer

SHARES = (0.6, 0.4, 0.25)
FORMS: tuple[Decomposition, ...] = get_args(Decomposition)
STEPS = 400
"""Fractions that are tried: an even grid in (0, 1)."""


def fraction_at(layer: Layer, share: float, form: Decomposition) -> float:
    """The largest fraction whose factors hold at most `share` of the layer's weights."""
    fractions = [step / STEPS for step in range(1, STEPS)]
    return max(f for f in fractions if _held(layer, f, form) <= share * layer.weight_count)


def losses(bench: Bench, share: float) -> None:
    """Prints the share of each layer's output energy that is lost, by form."""
    print(f"\n{share:.0%} of the weights: output energy lost, plain factors in brackets")
    print(f"{'':18s}", *(f"{form:>18s}" for form in FORMS))
    totals = torch.zeros(len(FORMS), 2)
    for layer in _convolutions(bench):
        matrix = to_matrix(bench.database.tensors[layer.weight], layer).double()
        gram = bench.database.statistics[layer.name].gram
        chains = [_chain(layer, fraction_at(layer, share, form), form) for form in FORMS]
        found = torch.tensor(
            [
                [
                    _lost(matrix, gram, gram, chain),
                    _lost(matrix, torch.eye(len(gram)).double(), gram, chain),
                ]
                for chain in chains
            ]
        )
        totals += found
        print(f"{layer.name:18s}", _cells(found), flush=True)
    print(f"{'sum':18s}", _cells(totals))


def accuracies(bench: Bench, share: float, dense: Outcome, rows: int | None) -> None:
    """Prints what the network loses when every convolution takes the same form."""
    for bits in (32, 4):
        for form in FORMS:
            choices = {
                layer.name: LayerChoice(
                    weight_bits=bits,
                    rank_fraction=fraction_at(layer, share, form),
                    decomposition=form,
                    method="gptq" if bits < 32 else "rtn",
                )
                for layer in _convolutions(bench)
            }
            _print_row(f"{share:.0%}, {bits} bits, {form}", bench, choices, dense, rows)


def wholes(bench: Bench, dense: Outcome, rows: int | None) -> None:
    """Prints what narrower codes of whole convolutions lose instead."""
    for bits in (4, 3, 2):
        choice = LayerChoice(weight_bits=bits, method="gptq")
        choices = {layer.name: choice for layer in _convolutions(bench)}
        _print_row(f"whole, {bits} bits", bench, choices, dense, rows)


def _print_row(
    label: str,
    bench: Bench,
    choices: dict[str, LayerChoice],
    dense: Outcome,
    rows: int | None,
) -> None:
    model = bench.assemble(Candidate.of(layers=choices))
    size = packed_file_bytes(model.blueprint) / 1000
    text = bench.outcome(model, bench.search, rows).text(dense)
    print(f"{label:22s} {text}  {size:.1f} kB", flush=True)


def _lost(matrix: Tensor, assumed: Tensor, gram: Tensor, chain: Chain) -> float:
    """Share of the outputs' energy under `gram` that factors solved under `assumed` lose."""
    found = compose(factorize(matrix, assumed, chain))
    return float(row_errors(found - matrix, gram).sum() / row_errors(matrix, gram).sum())


def _cells(found: Tensor) -> str:
    return " ".join(f"{own:9.4f} ({plain:.4f})" for own, plain in found.tolist())


def _convolutions(bench: Bench) -> list[Layer]:
    return [layer for layer in bench.database.model_map.layers[1:] if layer.kind == "conv2d"]


def _chain(layer: Layer, fraction: float, form: Decomposition) -> Chain:
    return factor_chain(layer, layer.weight_shape, fraction, form)


def _held(layer: Layer, fraction: float, form: Decomposition) -> int:
    return weight_count(_chain(layer, fraction, form))


def main() -> None:
    """Reads the arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="images of the search split; all by default")
    arguments = parser.parse_args()
    bench = open_bench()
    dense = bench.outcome(bench.assemble(Candidate()), bench.search, arguments.rows)
    print(f"{'uncompressed':22s} {dense.text(dense)}", flush=True)
    wholes(bench, dense, arguments.rows)
    for share in SHARES:
        losses(bench, share)
        accuracies(bench, share, dense, arguments.rows)


if __name__ == "__main__":
    main()
