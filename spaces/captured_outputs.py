"""Which values that a traced module returns are outputs of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import OutputKind, TensorArgument
from torch.utils import _pytree as pytree


def read_outputs(
    program: Any, names: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Outputs with the batch first, and their places in what the module returns.

    Constants beside them (None, numbers, a parameter as it is) are no outputs of a graph.

    Args:
        program: What `torch.export` made of the module.
        names: Names in the graph by those of the program's nodes.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    specs = program.graph_signature.output_specs
    returned = [spec.arg for spec in specs if spec.kind == OutputKind.USER_OUTPUT]
    tree = pytree.tree_unflatten(list(range(len(returned))), program.call_spec.out_spec)
    leaves = pytree.tree_flatten_with_path(tree)[0]
    found: dict[str, str] = {}
    for (path, _), argument in zip(leaves, returned, strict=True):
        # A constant has a value and no node, even where it is text that names one.
        if isinstance(argument, TensorArgument) and _has_batch(nodes[argument.name]):
            keys = (str(getattr(k, "key", getattr(k, "idx", k))) for k in path)
            found[".".join(keys)] = names[argument.name]
    return tuple(found.values()), tuple(found)


def _has_batch(fx_node: Any) -> bool:
    """Whether a value's first size follows the batch."""
    value = fx_node.meta.get("val")
    return (
        isinstance(value, Tensor) and value.dim() > 0 and isinstance(value.shape[0], torch.SymInt)
    )
