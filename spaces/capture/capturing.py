"""Reads any `nn.Module` into a `Graph` and its tensors, with batch normalisation folded.

`torch.export` traces the module in eval mode once; nothing of the user's code is changed or needed
afterwards. A batch norm that follows a convolution or linear layer is folded into it, because that
is what every inference runtime computes and therefore what has to be quantised.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from paredown.spaces.capture.choosing import choosing
from paredown.spaces.capture.constants import fold_constants
from paredown.spaces.capture.fold import fold_biases, fold_norms
from paredown.spaces.capture.linear_forms import as_linear
from paredown.spaces.capture.tracing import (
    CaptureError,
    check_operators,
    decomposed,
    is_identity,
    read_program,
)
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Graph, Node, prune_dead, rename_value, run
from paredown.spaces.graph.names import SLICE


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A traced module: its graph, the tensors it reads, and the norms that were folded.

    `example` holds the inputs it was traced with, in the graph's order. `folded` maps a layer's weight
    name to the standard deviation and mean, each (out,), that its output had in training: the target that
    statistics repair restores.
    """

    graph: Graph
    tensors: Mapping[str, Tensor]
    example: tuple[Tensor, ...]
    folded: Mapping[str, tuple[Tensor, Tensor]]


def capture(module: nn.Module, example: Any, lengths: tuple[int, int] | None = None) -> Captured:
    """Graph and tensors of `module` in eval mode.

    What does not depend on the inputs is computed once: position numbers, masks, tables, weights that are
    made of other tensors.

    Args:
        module: Any module; it is not changed. Its parameters are copied.
        example: Inputs of one call, batch first: a tensor, a tuple of arguments or a dict of
            keyword arguments.
        lengths: The shortest and the longest that dimension 1 of the inputs may be; without them it has
            the example's length alone. Of several inputs it is that of those as long as the first.

    Raises:
        CaptureError: Tracing fails, an operator cannot be run, a size cannot be kept, or the graph does
            not run on the example's number of rows.
    """
    args, kwargs = _arguments(module, example)
    with evaluating(module), choosing(module):
        program = _export(module, args, kwargs, lengths)
    leaves = pytree.tree_leaves((args, kwargs))
    graph, tensors = read_program(program, leaves, lengths or (0, 0))
    graph, tensors = fold_constants(prune_dead(_skip_identities(graph)), tensors)
    graph = prune_dead(_skip_identities(graph))
    check_operators(graph)
    with refusing_rows(module, len(leaves[0])):
        graph = _with_shapes(graph, tensors, leaves)
    graph, tensors = as_linear(graph, tensors)
    graph, tensors = fold_biases(prune_dead(graph), tensors)
    graph, tensors, folded = fold_norms(graph, tensors)
    used = set(graph.tensor_names())
    return Captured(
        graph=_with_shapes(graph, tensors, leaves),
        tensors={name: t for name, t in tensors.items() if name in used},
        example=tuple(leaves),
        folded=folded,
    )


@contextlib.contextmanager
def refusing_rows(module: nn.Module, rows: int) -> Iterator[None]:
    """Around a run of the module's graph on so many rows, which may not be those it was traced with.

    Raises:
        CaptureError: The graph does not run.
    """
    try:
        yield
    except RuntimeError as error:
        raise CaptureError(
            f"the graph read off {type(module).__name__} must run on any number of rows, got on "
            f"{rows} rows: {_first_line(error)}; write x.shape[0] or -1 for the batch, since len(x) is "
            "traced as a number"
        ) from error


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode, and as it was afterwards."""
    was_training = {name: m.training for name, m in module.named_modules()}
    module.eval()
    try:
        yield
    finally:
        for name, m in module.named_modules():
            m.training = was_training[name]


def as_inputs(graph: Graph, batch: Any) -> list[Tensor]:
    """The graph's inputs, in its order, from a batch as the user's data gives it.

    Args:
        batch: A tensor, a tuple or list in the order of forward's arguments, or a dict by name.
    """
    if isinstance(batch, Mapping):
        return [batch[name] for name in graph.inputs]
    return list(pytree.tree_leaves(batch))


def _arguments(module: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example as arguments of forward, by name only those that it takes in no other way."""
    if isinstance(example, Mapping):
        signature = inspect.signature(module.forward)
        try:
            bound = signature.bind(**example)
        except TypeError as error:
            raise CaptureError(
                f"inputs must be named as the arguments of {type(module).__name__}.forward"
                f"{signature}, got {', '.join(example)}: {error}; rename those of the data"
            ) from None
        if unnamed := bound.kwargs.keys() - signature.parameters.keys():
            raise CaptureError(
                f"{type(module).__name__}.forward{signature} must name its arguments, got "
                f"{', '.join(sorted(unnamed))} for the ** one; write them out"
            )
        return bound.args, bound.kwargs
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def _export(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    lengths: tuple[int, int] | None,
) -> ExportedProgram:
    # Tracing with a batch of one would specialise it, so the example is repeated to two.
    args, kwargs = pytree.tree_map_only(Tensor, _at_least_two, (args, kwargs))
    shapes = torch.export.ShapesCollection()
    leaves = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    for tensor in leaves:
        shapes[tensor] = {0: torch.export.Dim.AUTO}
        if lengths is not None and tensor.shape[1:2] == leaves[0].shape[1:2] != ():
            shapes[tensor][1] = torch.export.Dim.AUTO(min=lengths[0], max=lengths[1])
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            by_argument = shapes.dynamic_shapes(module, args, kwargs)
            return decomposed(
                torch.export.export(module, args, kwargs, dynamic_shapes=by_argument)
            )
    except Exception as error:  # torch.export raises many types for one fact: it cannot trace this
        raise CaptureError(
            f"{type(module).__name__} cannot be traced by torch.export: {_first_line(error)}; "
            "make its forward a function of tensor arguments without data-dependent control flow"
        ) from error


def _at_least_two(t: Tensor) -> Tensor:
    return t if t.shape[0] > 1 else torch.cat([t, t])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _skip_identities(graph: Graph) -> Graph:
    nodes: list[Node] = []
    stands_for: dict[str, str] = {}
    for node in graph.nodes:
        args = node.args
        for old in set(node.inputs) & stands_for.keys():
            args = rename_value(args, old, stands_for[old])
        if is_identity(node) or _is_whole_slice(node):
            stands_for[node.name] = args[0].name
        elif node.op == "aten.cat.default" and len(args[0]) == 1:
            stands_for[node.name] = args[0][0].name
        else:
            nodes.append(replace(node, args=args))
    outputs = tuple(stands_for.get(name, name) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)


def _is_whole_slice(node: Node) -> bool:
    # x[:, :, ::2] is traced as one slice per dimension, those that take everything included.
    if node.op != SLICE:
        return False
    _, _, start, end, step = node.args
    return start in (0, None) and end in (sys.maxsize, None) and step == 1


def _with_shapes(graph: Graph, tensors: Mapping[str, Tensor], example: list[Tensor]) -> Graph:
    known: dict[str, Node] = {}

    def _note(node: Node, _: Arguments, output: Result) -> Result:
        first = output if isinstance(output, Tensor) else output[0]
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        dtype = str(first.dtype).removeprefix("torch.")
        known[node.name] = replace(node, shape=shape, dtype=dtype)
        return output

    with torch.no_grad():
        run(graph, tensors, example, after=_note)
    return replace(graph, nodes=tuple(known[n.name] for n in graph.nodes))
