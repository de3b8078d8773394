"""What each method of compression loses on ResNet-20 without training, against the uncompressed model.

    PAREDOWN_DATA=... python benchmarks/compressors/methods.py [--methods NAMES] [--only SETTING]

Weights only, one scale per channel, first and last layer at 8 bits. Each row is a paired difference to
the uncompressed model on the final 5,000 test images; `rtn` is rounding to nearest and magnitude.
With `--orderings` prints, for each layer, the relative output error of every method instead. With
`--methods rtn,descent` only those, with `--only "2 bits"` only that setting.
"""

from __future__ import annotations

import argparse
import time

from paired import Bench, open_bench

from paredown.compressors.layers import METHODS, Problem, compress
from paredown.compressors.matrix import row_errors, to_matrix
from paredown.compressors.onnx import packed_file_bytes
from paredown.compressors.rounding import Target
from paredown.spaces.candidates import Candidate, LayerChoice, Method, Zeros

SETTINGS = {
    "4 bits": LayerChoice(weight_bits=4),
    "3 bits": LayerChoice(weight_bits=3),
    "2 bits": LayerChoice(weight_bits=2),
    "60 % zeros": LayerChoice(zeros=Zeros(0.6, "element")),
    "2:4": LayerChoice(zeros=Zeros(0.5, "2:4")),
    "2:4 and 4 bits": LayerChoice(weight_bits=4, zeros=Zeros(0.5, "2:4")),
    "50 % and 4 bits": LayerChoice(weight_bits=4, zeros=Zeros(0.5, "element")),
    "60 % and 4 bits": LayerChoice(weight_bits=4, zeros=Zeros(0.6, "element")),
    "70 % and 4 bits": LayerChoice(weight_bits=4, zeros=Zeros(0.7, "element")),
    "80 % and 4 bits": LayerChoice(weight_bits=4, zeros=Zeros(0.8, "element")),
    "blocks 50 %, 4 bits": LayerChoice(weight_bits=4, zeros=Zeros(0.5, "block")),
    "blocks 60 %, 4 bits": LayerChoice(weight_bits=4, zeros=Zeros(0.6, "block")),
    "60 % and 3 bits": LayerChoice(weight_bits=3, zeros=Zeros(0.6, "element")),
    "80 % and 2 bits": LayerChoice(weight_bits=2, zeros=Zeros(0.8, "element")),
    "blocks 40 %, 2 bits": LayerChoice(weight_bits=2, zeros=Zeros(0.4, "block")),
}


def with_method(choice: LayerChoice, method: Method) -> LayerChoice:
    """The choice solved by `method`."""
    return LayerChoice(weight_bits=choice.weight_bits, zeros=choice.zeros, method=method)


def accuracies(bench: Bench, methods: list[Method], only: str) -> None:
    """Prints one row for each setting and method."""
    dense = bench.outcome(bench.assemble(Candidate.of()))
    print(f"{'uncompressed':30s}{dense.text(dense)}", flush=True)
    for label, choice in _settings(only):
        for method in methods:
            started = time.process_time()
            candidate = bench.candidate(with_method(choice, method))
            model = bench.assemble(candidate)
            seconds = time.process_time() - started
            size = packed_file_bytes(model.blueprint) / 1000
            text = bench.outcome(model).text(dense)
            print(f"{label:19s} {method:10s}{text}  {size:.1f} kB  {seconds:.1f} s", flush=True)


def orderings(bench: Bench, methods: list[Method], only: str) -> None:
    """Prints relative output errors by layer, and their sums."""
    for label, choice in _settings(only):
        print(f"\n{label}: share of the outputs' energy lost\n{'':18s}", *methods, sep="\t")
        sums = dict.fromkeys(methods, 0.0)
        for layer in bench.database.model_map.layers[1:-1]:
            matrix = to_matrix(bench.database.tensors[layer.weight], layer)
            gram = bench.database.statistics[layer.name].gram
            whole = float(row_errors(matrix, gram).sum())
            shares = []
            for method in methods:
                found = compress(
                    Problem(target=Target.of(matrix, gram)), with_method(choice, method)
                )
                share = float(row_errors(found.dense() - matrix, gram).sum()) / whole
                sums[method] += share
                shares.append(f"{share:.5f}")
            print(f"{layer.name:18s}", *shares, sep="\t", flush=True)
        print(f"{'sum':18s}", *(f"{share:.5f}" for share in sums.values()), sep="\t")


def _settings(only: str) -> list[tuple[str, LayerChoice]]:
    return [(label, choice) for label, choice in SETTINGS.items() if only in label]


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orderings", action="store_true", help="errors by layer instead")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--only", default="", help="part of a setting's name")
    arguments = parser.parse_args()
    methods = [name for name in METHODS if name in arguments.methods.split(",")]
    action = orderings if arguments.orderings else accuracies
    action(open_bench(), methods, arguments.only)


if __name__ == "__main__":
    main()
