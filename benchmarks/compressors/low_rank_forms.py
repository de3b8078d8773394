"""Low-rank forms of ResNet-20's convolutions at equal weights, and ranks by error against equal shares.

    PAREDOWN_DATA=... python benchmarks/compressors/low_rank_forms.py [--rows N] [--part PART]

For each share of the weights, every convolution but the first takes, in each form, the largest ranks
that hold no more than the share. First the output energy that each layer loses, by form, and by the
plain (unwhitened) factors of the same shape; then accuracy on the search split as a paired difference
to the uncompressed model, output moments restored layer by layer, and bytes of the packed file: in
float, and with codes of 4 bits by gptq. Above them stand whole layers of fewer bits.

Then, for each form and share of all convolutions' weights, ranks by error (every layer the thinnest that
lose one share of its output energy, the same for all) against the same share of the full rank in every
layer, which never holds fewer weights. Last each layer takes the value of its own that harms least, of
four errors and forms or of four shares and forms. With `--rows N` on N images; `--part` prints one of
the three.
"""

from __future__ import annotations

import argparse
import math
from typing import get_args

import torch
from paired import Bench, Outcome, open_bench
from torch import Tensor

from paredown.compressors.low_rank import Found, compose, factorize, thinnest_ranks
from paredown.compressors.matrix import centred_gram, row_errors, to_matrix
from paredown.compressors.onnx import packed_file_bytes
from paredown.search.space import value_of
from paredown.spaces.candidates import (
    WHOLE,
    Candidate,
    Chain,
    Decomposition,
    LayerChoice,
    Rank,
    factor_chain,
    form_of,
    weight_count,
)
from paredown.spaces.structure import Layer

SHARES = (0.6, 0.4, 0.25)
FORMS: tuple[Decomposition, ...] = get_args(Decomposition)
STEPS = 400
"""Fractions that are tried: an even grid in (0, 1)."""
ERRORS = tuple(0.004 * 1.15**step for step in range(36))
"""One of them holds for every layer."""
OFFERED_ERRORS, OFFERED_SHARES = (0.02, 0.05, 0.1, 0.2), (0.75, 0.5, 0.35, 0.2)
"""Equally many values of a knob."""


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
                    rank=Rank(fraction_at(layer, share, form), form),
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


def errors_against_shares(bench: Bench, dense: Outcome, rows: int | None) -> None:
    """Prints what ranks of one error lose, and those of one share with no fewer weights."""
    layers = _convolutions(bench)
    total = sum(layer.weight_count for layer in layers)
    for form in FORMS:
        found = {layer.name: _thinnest(bench, layer, form) for layer in layers}
        for share in SHARES:
            for error in ERRORS:
                values = {
                    layer.name: _value(layer, form, found[layer.name][error]) for layer in layers
                }
                held = _total(layers, values)
                if held <= share * total:
                    break
            fractions = (step / STEPS for step in range(1, STEPS))
            alike = ({each.name: Rank(f, form) for each in layers} for f in fractions)
            same = next(each for each in alike if _total(layers, each) >= held)
            for bits in (32, 4):
                for label, each in ((f"error {error:.4f}", values), ("one share", same)):
                    choices = {name: _choice(value, bits) for name, value in each.items()}
                    weights = _total(layers, each) / total
                    title = f"{form}, {bits} bits, {label}, {weights:.2%}"
                    _print_row(f"{title:40s}", bench, choices, dense, rows)


def mixtures(bench: Bench, dense: Outcome, rows: int | None) -> None:
    """Prints what layers lose that take one of as many values each, shares or errors, in all forms.

    Chosen for the least sum of predicted damages, in float, that so many weights allow.
    """
    layers = _convolutions(bench)
    total = sum(layer.weight_count for layer in layers)
    offered: dict[str, dict[str, list[Rank]]] = {"shares": {}, "errors": {}}
    for layer in layers:
        found = [(form, _thinnest(bench, layer, form)) for form in FORMS]
        errors = [
            _value(layer, form, each[error]) for form, each in found for error in OFFERED_ERRORS
        ]
        offered["errors"][layer.name] = [WHOLE, *errors]
        shares: list[Rank] = [Rank(s, form) for form in FORMS for s in OFFERED_SHARES]
        offered["shares"][layer.name] = [WHOLE, *shares]
    for share in SHARES:
        for label, values in offered.items():
            chosen = _least_damage(bench, layers, values, share * total)
            weights = _total(layers, chosen) / total
            for bits in (32, 4):
                choices = {name: _choice(value, bits) for name, value in chosen.items()}
                title = f"mixed, {bits} bits, {label}, {weights:.2%}"
                _print_row(f"{title:40s}", bench, choices, dense, rows)


def _least_damage(
    bench: Bench, layers: list[Layer], values: dict[str, list[Rank]], most: float
) -> dict[str, Rank]:
    """By layer a value, the least predicted damage together with at most so many weights."""
    # Of all layers so far, by thousandths of `most`: the least damage, and the values that have it.
    best: list[tuple[float, tuple[Rank, ...]]] = [(0.0, ())] * 1001
    for layer in layers:
        own = []
        for value in values[layer.name]:
            harm = bench.database.damage(layer, _choice(value, 32), {})
            weights = weight_count(factor_chain(layer, layer.weight_shape, value))
            own.append((harm, math.ceil(1000 * weights / most), value))
        best = [
            min(
                (
                    (best[room - part][0] + harm, (*best[room - part][1], value))
                    for harm, part, value in own
                    if part <= room
                ),
                key=lambda each: each[0],
                default=(math.inf, ()),
            )
            for room in range(1001)
        ]
    return dict(zip((layer.name for layer in layers), best[-1][1], strict=True))


def _choice(value: Rank, bits: int) -> LayerChoice:
    return LayerChoice(weight_bits=bits, rank=value, method="gptq" if bits < 32 else "rtn")


def _thinnest(bench: Bench, layer: Layer, form: Decomposition) -> dict[float, Found | None]:
    matrix = to_matrix(bench.database.tensors[layer.weight], layer)
    statistics = bench.database.statistics[layer.name]
    gram = statistics.gram
    if layer.bias is not None:
        gram = centred_gram(gram, statistics.input_mean)
    own = form_of(layer, form)
    return thinnest_ranks(matrix, gram, layer.weight_shape, own, ERRORS + OFFERED_ERRORS)


def _value(layer: Layer, form: Decomposition, found: Found | None) -> Rank:
    return WHOLE if found is None else value_of(layer, form_of(layer, form), found.ranks)


def _total(layers: list[Layer], values: dict[str, Rank]) -> int:
    return sum(
        weight_count(factor_chain(layer, layer.weight_shape, values[layer.name]))
        for layer in layers
    )


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
    return factor_chain(layer, layer.weight_shape, Rank(fraction, form))


def _held(layer: Layer, fraction: float, form: Decomposition) -> int:
    return weight_count(_chain(layer, fraction, form))


def main() -> None:
    """Reads the arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="images of the search split; all by default")
    parser.add_argument("--part", choices=("forms", "errors", "mixed"), help="one of three")
    arguments = parser.parse_args()
    bench = open_bench()
    dense = bench.outcome(bench.assemble(Candidate()), bench.search, arguments.rows)
    print(f"{'uncompressed':22s} {dense.text(dense)}", flush=True)
    if arguments.part in (None, "forms"):
        wholes(bench, dense, arguments.rows)
        for share in SHARES:
            losses(bench, share)
            accuracies(bench, share, dense, arguments.rows)
    if arguments.part in (None, "errors"):
        errors_against_shares(bench, dense, arguments.rows)
    if arguments.part in (None, "mixed"):
        mixtures(bench, dense, arguments.rows)


if __name__ == "__main__":
    main()
