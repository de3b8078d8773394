"""Which share of the weight bytes each knob reaches, on every network of the tests.

    python benchmarks/storage/zoo_coverage.py [NAME ...]

Shares are of weight bytes: float tensors of two or more dimensions. `weights` is their own share of
all tensors; biases and norms always stay float32. `linears` is what rank reaches of the Linear
layers. Exit code 1 if bits reach less than 95 %, rank misses a Linear layer, or a convolutional
network has no width group.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from networks import load_tests

from paredown.spaces.candidates import Rank, factor_chain
from paredown.spaces.capture import capture
from paredown.spaces.structure import Layer, ModelMap, read_model_map

SMALLEST_RANK = 0.1
"""A layer is reached by the rank knob if this share of its full rank makes it smaller."""
LEAST_BITS = 0.95
COLUMNS = (
    "weights",
    "bits",
    "sparsity",
    "rank",
    "linears",
    "width",
    "layers",
    "groups",
    "blocks",
    "segs",
)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the knobs reach, shares in [0, 1]; `linears` is None without Linear layers."""

    weights: float
    bits: float
    sparsity: float
    rank: float
    linears: float | None
    width: float
    layers: int
    groups: int
    blocks: int
    segments: int
    left_out: tuple[str, ...]


def cover(model_map: ModelMap) -> Coverage:
    """The coverage of one network."""
    shapes = model_map.tensor_shapes.values()
    total = sum(prod(shape) for shape in shapes if len(shape) > 1)
    linears = [layer for layer in model_map.layers if layer.kind == "linear"]
    factored = [layer for layer in model_map.layers if _has_rank(layer)]
    narrowed = _narrowed_weights(model_map)
    reached = _count(model_map.layers) / total
    return Coverage(
        weights=total / sum(prod(shape) for shape in shapes),
        bits=reached,
        sparsity=reached,
        rank=_count(factored) / total,
        linears=_count(filter(_has_rank, linears)) / _count(linears) if linears else None,
        width=_count(layer for layer in model_map.layers if layer.weight in narrowed) / total,
        layers=len(model_map.layers),
        groups=len(model_map.groups),
        blocks=len(model_map.blocks),
        segments=len(model_map.segments),
        left_out=_left_out(model_map, narrowed),
    )


def shortfalls(name: str, found: Coverage, is_cnn: bool) -> list[str]:
    """What a network lacks of the coverage that is promised."""
    lacks = []
    if found.bits < LEAST_BITS:
        lacks.append(f"{name}: bits reach {found.bits:.1%}, less than {LEAST_BITS:.0%}")
    if found.linears is not None and found.linears < 1:
        lacks.append(f"{name}: rank misses a Linear layer")
    if is_cnn and not found.groups:
        lacks.append(f"{name}: no verified width group")
    return lacks


def _has_rank(layer: Layer) -> bool:
    return len(factor_chain(layer, layer.weight_shape, Rank(SMALLEST_RANK, "channel"))) > 1


def _narrowed_weights(model_map: ModelMap) -> frozenset[str]:
    """Weights that at least one channel group shortens."""
    return frozenset(
        name
        for (name, _), parts in model_map.tensor_parts.items()
        if any(part.group is not None for part in parts)
    )


def _count(layers: Iterable[Layer]) -> int:
    return sum(layer.weight_count for layer in layers)


def _left_out(model_map: ModelMap, narrowed: frozenset[str]) -> tuple[str, ...]:
    lines = [f"{left.what}: {left.reason}" for left in model_map.left_out]
    for layer in model_map.layers:
        missing = []
        if not _has_rank(layer):
            missing.append("rank")
        if layer.weight not in narrowed:
            missing.append("width")
        if missing:
            shape = "x".join(map(str, layer.weight_shape))
            grouped = f", {layer.groups} groups" if layer.groups > 1 else ""
            lines.append(
                f"{layer.name} ({layer.kind} {shape}{grouped}): no {' or '.join(missing)}"
            )
    others = {*model_map.tensor_shapes} - {layer.weight for layer in model_map.layers}
    floats = sum(prod(model_map.tensor_shapes[name]) for name in others)
    return (*lines, f"float32 always: {floats} values of biases, norms and constants")


def _row(name: str, found: Coverage) -> str:
    shares = (found.weights, found.bits, found.sparsity, found.rank, found.linears, found.width)
    counts = (found.layers, found.groups, found.blocks, found.segments)
    cells = [f"{'-':>9}" if share is None else f"{share:9.1%}" for share in shares] + [
        f"{count:9d}" for count in counts
    ]
    return f"{name:18}" + "".join(cells)


def main() -> int:
    """Prints the table and the lists; returns the exit code."""
    zoo = load_tests("zoo")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(zoo.ZOO))
    names = parser.parse_args().names or list(zoo.ZOO)
    torch.set_num_threads(1)
    found = {}
    print(" " * 18 + "".join(f"{column:>9}" for column in COLUMNS))
    for name in names:
        build, example = zoo.ZOO[name]
        found[name] = cover(read_model_map(capture(build(), example(1))))
        print(_row(name, found[name]), flush=True)
    lacks = [text for n, c in found.items() for text in shortfalls(n, c, n in zoo.CNNS)]
    for name, coverage in found.items():
        print(f"\n{name}, left out:")
        print("\n".join(f"  {line}" for line in coverage.left_out))
    print("\n" + ("\n".join(lacks) or "Every knob reaches what it must."))
    return 1 if lacks else 0


if __name__ == "__main__":
    sys.exit(main())
