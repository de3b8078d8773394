"""Tucker ranks found for an error, against the thinnest of all pairs of ranks that keep it.

    PAREDOWN_DATA=... python benchmarks/compressors/tucker_pairs.py [--layers NAME,...]

For some of ResNet-20's layers (`--layers`) and errors: the pair that is found and how many factorisations
that took, the thinnest of all pairs that keep the error, and the thinnest whose two shares of the full
ranks are equal.
"""

from __future__ import annotations

import argparse
import itertools
from unittest.mock import patch

from paired import Bench, open_bench

from paredown.compressors.low_rank import compose, factorize, rank_by_error, thinnest_ranks
from paredown.compressors.matrix import centred_gram, row_errors, to_matrix
from paredown.spaces.candidates import (
    Chain,
    Rank,
    chain_at,
    factor_chain,
    full_ranks,
    weight_count,
)

LAYERS = ("layer1.0.conv1", "layer1.2.conv2", "layer2.0.conv1", "layer3.0.conv1")
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


def compare(bench: Bench, name: str) -> None:
    """Prints one row for each error."""
    layer = bench.database.model_map.layer_by_name[name]
    statistics, shape = bench.database.statistics[name], layer.weight_shape
    matrix = to_matrix(bench.database.tensors[layer.weight], layer)
    gram = statistics.gram
    if layer.bias is not None:
        gram = centred_gram(gram, statistics.input_mean)
    energy = float(row_errors(matrix, gram).sum())
    read, written = full_ranks("tucker", shape)
    every: dict[tuple[int, int], tuple[int, float]] = {}
    for pair in itertools.product(range(1, read), range(1, written + 1)):
        chain = chain_at("tucker", shape, pair)
        if weight_count(chain) < layer.weight_count:
            change = compose(factorize(matrix, gram, chain)) - matrix
            every[pair] = weight_count(chain), float(row_errors(change, gram).sum()) / energy
    alike = {_ranks(factor_chain(layer, shape, Rank(r / read, "tucker"))) for r in range(1, read)}
    print(f"\n{name} {shape}, {len(every)} pairs")
    for error in ERRORS:
        with patch.object(rank_by_error, "factorize", wraps=factorize) as counted:
            found = thinnest_ranks(matrix, gram, shape, "tucker", (error,))[error]
        keeping = {pair: held for pair, (held, lost) in every.items() if lost <= error}
        if found is None or not keeping:
            print(f"  error {error:.2f}: none saves weights")
            continue
        best = min(keeping, key=keeping.__getitem__)
        equal = min((keeping[p] for p in alike if p in keeping), default=None)
        held = every[found.ranks[0], found.ranks[1]][0]
        beside = "-" if equal is None else f"{equal / held - 1:+.1%}"
        over = held / keeping[best] - 1
        print(
            f"  error {error:.2f}: found {found.ranks} in {counted.call_count} factorisations, {held} "
            f"weights; best of all {best}, {over:+.1%} over it; equal shares {beside}",
            flush=True,
        )


def _ranks(chain: Chain) -> tuple[int, ...]:
    return tuple(link.shape[0] for link in chain[:-1])


def main() -> None:
    """Reads the arguments and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="+", default=LAYERS, help="names of 3x3 convolutions")
    arguments = parser.parse_args()
    bench = open_bench()
    for name in arguments.layers:
        compare(bench, name)


if __name__ == "__main__":
    main()
