"""A graph as JSON and back: what bundles, caches and digests keep of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from paredown.spaces.graph.graph import Arg, Graph, GraphError, Node, Ref
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.graph.sizes import Size, check_term


def to_json(graph: Graph) -> dict[str, Any]:
    """A JSON-ready description; `from_json` gives an equal graph back."""
    return {
        "nodes": [
            {"name": n.name, "op": n.op, "args": _encode(n.args), "shape": list(n.shape)}
            # Left out where it is the usual one: digests of graphs then stay those of older runs.
            | ({} if n.dtype == "float32" else {"dtype": n.dtype})
            for n in graph.nodes
        ],
        "inputs": list(graph.inputs),
        "input_shapes": [list(shape) for shape in graph.input_shapes],
        "input_dtypes": list(graph.input_dtypes),
        "outputs": list(graph.outputs),
        "output_keys": list(graph.output_keys),
        # Left out where they are the usual ones, for the same reason.
        **({"timed": list(graph.timed), "lengths": list(graph.lengths)} if graph.timed else {}),
        **({"any_batch": True} if graph.any_batch else {}),
    }


def from_json(data: Mapping[str, Any]) -> Graph:
    """The graph that `to_json` described.

    Raises:
        GraphError: A node names an operator outside `OPERATORS`; nothing else can be run.
    """
    nodes = tuple(
        Node(
            name=n["name"],
            op=n["op"],
            args=_decode(n["args"]),
            shape=tuple(n["shape"]),
            dtype=n.get("dtype", "float32"),
        )
        for n in data["nodes"]
    )
    for node in nodes:
        if node.op not in OPERATORS:
            raise GraphError(f"graph: operator {node.op!r} of node {node.name!r} is not allowed")
    return Graph(
        nodes=nodes,
        inputs=tuple(data["inputs"]),
        input_shapes=tuple(tuple(shape) for shape in data["input_shapes"]),
        input_dtypes=tuple(data["input_dtypes"]),
        outputs=tuple(data["outputs"]),
        output_keys=tuple(data["output_keys"]),
        timed=tuple(data.get("timed", ())),
        lengths=tuple(data.get("lengths", (0, 0))),
        any_batch=bool(data.get("any_batch", False)),
    )


def _encode(arg: Arg) -> Any:
    if isinstance(arg, Ref):
        return {"ref": arg.name}
    if isinstance(arg, Size):
        return {"batch": arg.batches} if arg.batches else {"size": arg.term}
    if isinstance(arg, torch.dtype):
        return {"dtype": str(arg).removeprefix("torch.")}
    if isinstance(arg, tuple):
        return [_encode(item) for item in arg]
    if isinstance(arg, float) and not math.isfinite(arg):
        return {"float": str(arg)}
    return arg


def _decode(arg: Any) -> Arg:
    if isinstance(arg, dict):
        ((kind, value),) = arg.items()
        if kind == "dtype":
            dtype = getattr(torch, value, None)
            if not isinstance(dtype, torch.dtype):
                raise GraphError(f"graph: unknown dtype {value!r}")
            return dtype
        return _READ[kind](value)
    return tuple(_decode(item) for item in arg) if isinstance(arg, list) else arg


def _size(term: Any) -> Size:
    return Size(check_term(_decode(term)))


_READ: Mapping[str, Callable[[Any], Arg]] = {
    "ref": Ref,
    "batch": Size.of_batch,
    "size": _size,
    "float": float,
}
