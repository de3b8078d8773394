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
    rows = _rows(program)
    found: dict[str, str] = {}
    for (path, _), argument in zip(leaves, returned, strict=True):
        # A constant has a value and no node, even where it is text that names one.
        if isinstance(argument, TensorArgument) and _has_batch(nodes[argument.name], rows):
            keys = (str(getattr(k, "key", getattr(k, "idx", k))) for k in path)
            found[".".join(keys)] = names[argument.name]
    return tuple(found.values()), tuple(found)


def _rows(program: Any) -> int | None:
    """The batch where tracing has fixed it: the first size of all inputs; None where it is free."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = [values[name] for name in program.graph_signature.user_inputs if name in values]
    sizes = {_known(x.shape[0]) for x in inputs if isinstance(x, Tensor) and x.dim()}
    return sizes.pop() if len(sizes) == 1 else None


def _known(size: int | torch.SymInt) -> int | None:
    """A size that tracing has fixed; inputs keep a symbol for it all the same."""
    return size if isinstance(size, int) else size.node.maybe_as_int()


def _has_batch(fx_node: Any, rows: int | None) -> bool:
    """Whether a value's first size follows the batch, or is as long where the batch is fixed."""
    value = fx_node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() == 0:
        return False
    first = value.shape[0]
    return isinstance(first, torch.SymInt) or (rows is not None and first == rows)
