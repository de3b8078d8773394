"""ONNX Runtime's fused 8-bit kernels against the simulation of paredown, code by code.

    python benchmarks/operators/fused_kernels.py [--seeds 3]

Each operator is captured from a module, its inputs and its result are rounded to 8-bit codes, and the
exported file is run beside the simulation, over axes, sizes, ranks, scales and zero points. Two
codes may differ by one (a tie rounded the other way); more is a fault of the kernel. A row for every
operator and kernel. Results of a known range are tried with other codes too, which paredown never
writes: these rows say "not written". The exit code is 1 where a pattern that is written is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.kernels import kernels, session
from paredown.compressors.onnx import lower
from paredown.compressors.storage import CompressedModel, StoredTensor
from paredown.spaces.candidates import Blueprint
from paredown.spaces.capture import capture
from paredown.spaces.graph import QDQ, Graph, Node, Ref, rename_value, run

Function = Callable[..., Tensor]
ALLOWED_CODES = 1


class Wrapped(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Function, inputs: int) -> None:
        super().__init__()
        self.function = function
        self.two = inputs == 2

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.function(x, y) if self.two else self.function(x)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operator on inputs of one shape; `outputs` are codes of its result that are tried too."""

    operator: str
    what: str
    function: Function
    shape: tuple[int, ...]
    inputs: int = 1
    outputs: tuple[tuple[float, int], ...] = ()


SHAPES = (
    (4, 10),
    (2, 1000),
    (2, 7, 8),
    (2, 64, 5),
    (2, 4, 8, 8),
    (1, 3, 7, 5),
    (1, 2, 64, 8),
    (1, 4, 196, 196),
    (2, 2, 3, 4, 5),
)
SPREADS = ((1.0, 0.0), (8.0, 0.0), (0.05, 0.02), (3.0, -4.0))
"""Standard deviation and mean of the inputs."""


def cases() -> Iterator[Case]:
    """Every operator on every shape; softmax, sums and means along every axis."""
    for shape in SHAPES:
        functions = _pointwise()
        if len(shape) in (3, 4):
            functions |= _pools(len(shape) - 2)
        for name, function in functions.items():
            yield Case(operator=name, what=str(shape), function=function, shape=shape)
        for name, function in _pairs().items():
            yield Case(operator=name, what=str(shape), function=function, shape=shape, inputs=2)
        for axis in range(1, len(shape)):
            yield from _along(axis, shape)


def _pointwise() -> dict[str, Function]:
    return {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "hardsigmoid": F.hardsigmoid,
        "hardswish": F.hardswish,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
        "relu": torch.relu,
        "relu6": F.relu6,
        "gelu": F.gelu,
        "silu": F.silu,
        "elu": F.elu,
        "exp": lambda x: torch.exp(-x.abs()),
        "clamp": lambda x: x.clamp(-0.5, 0.7),
    }


def _pairs() -> dict[str, Function]:
    return {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "cat": lambda x, y: torch.cat([x, y], 1),
        "cat, last axis": lambda x, y: torch.cat([x, y], -1),
        "add, spread": lambda x, y: x + y[..., :1],
        "mul, spread": lambda x, y: x * y[..., :1],
        "matmul": lambda x, y: x @ y.transpose(-1, -2) if x.ndim > 2 else x * y,
    }


def _pools(rank: int) -> dict[str, Function]:
    average = (F.avg_pool1d, F.avg_pool2d)[rank - 1]
    largest = (F.max_pool1d, F.max_pool2d)[rank - 1]
    adaptive = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d)[rank - 1]
    axes = tuple(range(2, 2 + rank))
    return {
        "avg_pool": lambda x: average(x, 2, 1),
        "avg_pool, padded": lambda x: average(x, 3, 2, 1),
        "avg_pool, pads left out": lambda x: average(x, 3, 2, 1, count_include_pad=False),
        "global pool": lambda x: adaptive(x, 1),
        "mean, kept": lambda x: x.mean(axes, keepdim=True),
        "mean": lambda x: x.mean(axes),
        "max_pool": lambda x: largest(x, 2, 1),
    }


def _along(axis: int, shape: tuple[int, ...]) -> Iterator[Case]:
    functions = {
        "softmax": lambda x: torch.softmax(x, axis),
        "log_softmax": lambda x: torch.log_softmax(x, axis),
        "sum": lambda x: x.sum(axis),
        "mean, one axis": lambda x: x.mean(axis),
    }
    for name, function in functions.items():
        yield Case(
            operator=name,
            what=f"{shape}, axis {axis}",
            function=function,
            shape=shape,
            outputs=((0.0014, 0), (0.0005, 0)) if name == "softmax" else (),
        )


def codes_of(*values: Tensor) -> tuple[float, int]:
    """Scale and zero point of the values' own range."""
    low = min(0.0, *(float(v.min()) for v in values))
    high = max(1e-6, *(float(v.max()) for v in values))
    scale = float(np.float32((high - low) / 255))
    return scale, round(-low / scale)


def between_codes(graph: Graph, codes: dict[str, tuple[float, int]]) -> Graph:
    """The graph with a QDQ node behind every input and behind its output."""
    nodes = [_qdq(graph, name, codes) for name in graph.inputs]
    last = graph.outputs[0]
    for node in graph.nodes:
        args = node.args
        for name in graph.inputs:
            args = rename_value(args, name, f"{name}_q")
        nodes.append(replace(node, args=args))
    nodes.append(_qdq(graph, last, codes))
    return replace(graph, nodes=tuple(nodes), outputs=(f"{last}_q",))


def _qdq(graph: Graph, name: str, codes: dict[str, tuple[float, int]]) -> Node:
    args = (Ref(name), *codes[name], 0, 255)
    return Node(name=f"{name}_q", op=QDQ, args=args, shape=graph.shape_of(name))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far runtime and simulation are apart in codes, and what ran."""

    codes: int
    kernel: str
    is_written: bool
    what: str


def differences(case: Case, seeds: int) -> Iterator[Difference]:
    """The case over all spreads of its inputs, seeds and codes of its output."""
    module = Wrapped(case.function, case.inputs).eval()
    captured = capture(module, tuple(torch.randn(case.shape) for _ in range(case.inputs)))
    graph = captured.graph
    for (spread, mean), seed in product(SPREADS, range(seeds)):
        torch.manual_seed(seed)
        tensors = [spread * torch.randn(case.shape) + mean for _ in range(case.inputs)]
        codes = {n: codes_of(t) for n, t in zip(graph.inputs, tensors, strict=True)}
        result = run(graph, captured.tensors, tensors)[0]
        (output,) = graph.outputs
        known = graph.by_name[output].facts.known_codes
        # What only moves values hands its input's codes on.
        moved = codes.get(graph.by_name[output].inputs[0]) if _moves(graph, output) else None
        own = moved or codes_of(result)
        tried = dict.fromkeys((known or own, own, *_shifted(own, moved), *case.outputs))
        for each in tried:
            model = _model(between_codes(graph, codes | {output: each}), captured.tensors)
            what = (
                f"{case.what}, inputs {spread} x N + {mean}, output codes {each[0]:.3g}, {each[1]}"
            )
            yield _difference(model, tensors, what, each == known or known is None)


def _moves(graph: Graph, value: str) -> bool:
    return graph.by_name[value].facts.moves_data


def _shifted(
    own: tuple[float, int], moved: tuple[float, int] | None
) -> tuple[tuple[float, int], ...]:
    """Codes that clip, and another zero point."""
    if moved is not None:
        return ()
    scale, zero_point = own
    return (float(np.float32(scale / 2)), zero_point), (scale, 128)


def _model(graph: Graph, tensors: Mapping[str, Tensor]) -> CompressedModel:
    stored = {n: StoredTensor.of_floats(t) for n, t in tensors.items()}
    storage = {n: t.storage for n, t in stored.items()}
    blueprint = Blueprint(graph=graph, operators=(), storage=storage)
    return CompressedModel(blueprint=blueprint, stored=stored)


def _difference(
    model: CompressedModel, tensors: list[Tensor], what: str, is_written: bool
) -> Difference:
    graph = model.blueprint.graph
    file = lower(model).SerializeToString()
    feeds = {n: t.numpy() for n, t in zip(graph.inputs, tensors, strict=True)}
    (found,) = session(file).run(None, feeds)
    (expected,) = model(tensors)
    scale = graph.by_name[graph.outputs[0]].args[1]
    worst = round(float(np.abs(found - expected.numpy()).max() / scale))
    return Difference(codes=worst, kernel=_kernel(file), is_written=is_written, what=what)


def _kernel(file: bytes) -> str:
    found = kernels(file).keys() - {"QuantizeLinear", "DequantizeLinear"}
    return ", ".join(sorted(found)) or "codes moved"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[tuple[str, str, str], list[Difference]] = defaultdict(list)
    for case in cases():
        for difference in differences(case, options.seeds):
            written = "" if difference.is_written else "not written"
            found[case.operator, difference.kernel, written].append(difference)
    is_wrong = False
    for (operator, kernel, written), tried in sorted(found.items()):
        wrong = [d for d in tried if d.codes > ALLOWED_CODES]
        row = f"{operator:<24}{kernel:<32}{written:<12}{len(wrong):>5} of {len(tried):>5} wrong"
        if wrong:
            worst = max(wrong, key=lambda d: d.codes)
            row += f", worst by {worst.codes} codes: {worst.what}"
        print(row)
        is_wrong |= bool(wrong) and not written
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
