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
from torch.utils import _pytree as pytree

from paredown.spaces.graph.captured_outputs import read_outputs
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.fold import NORM, fold_norms
from paredown.spaces.graph.functions import GETITEM
from paredown.spaces.graph.graph import (
    Arg,
    Arguments,
    Batch,
    Graph,
    Node,
    Ref,
    prune_dead,
    rename_value,
    run,
)
from paredown.spaces.graph.layers_of_steps import RECURRENT, RecurrentError, Unrolled, unroll
from paredown.spaces.graph.operators import CONVERT, COPY, OPERATORS, SLICE, TRACED_AS
from paredown.spaces.system.errors import ParedownError

_ZEROS = ("aten.zeros.default", "aten.new_zeros.default", "aten.zeros_like.default")
_IDENTITIES = frozenset(op for op, facts in OPERATORS.items() if facts.is_identity)


class CaptureError(ParedownError):
    """The module cannot be traced into a graph of known operators."""


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


def capture(module: nn.Module, example: Any) -> Captured:
    """Graph and tensors of `module` in eval mode.

    Args:
        module: Any module; it is not changed. Its parameters are copied.
        example: Inputs of one call, batch first: a tensor, a tuple of arguments or a dict of
            keyword arguments.

    Raises:
        CaptureError: Tracing fails, an operator is unknown, or a shape mixes with the batch size.
    """
    args, kwargs = _arguments(module, example)
    with evaluating(module):
        program = _export(module, args, kwargs)
    leaves = pytree.tree_leaves((args, kwargs))
    graph, tensors = _read(program, leaves)
    graph, tensors, folded = fold_norms(prune_dead(_skip_identities(graph)), tensors)
    used = set(graph.tensor_names())
    return Captured(
        graph=_with_shapes(graph, tensors, leaves),
        tensors={name: t for name, t in tensors.items() if name in used},
        example=tuple(leaves),
        folded=folded,
    )


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


def _export(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # Tracing with a batch of one would specialise it, so the example is repeated to two.
    args, kwargs = pytree.tree_map_only(Tensor, _at_least_two, (args, kwargs))
    shapes = torch.export.ShapesCollection()
    for tensor in pytree.tree_leaves((args, kwargs)):
        if isinstance(tensor, Tensor):
            shapes[tensor] = {0: torch.export.Dim.AUTO}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            by_argument = shapes.dynamic_shapes(module, args, kwargs)
            program = torch.export.export(module, args, kwargs, dynamic_shapes=by_argument)
            return program.run_decompositions({})
    except Exception as error:  # torch.export raises many types for one fact: it cannot trace this
        raise CaptureError(
            f"{type(module).__name__} cannot be traced by torch.export: {_first_line(error)}; "
            "make its forward a function of tensor arguments without data-dependent control flow"
        ) from error


def _at_least_two(t: Tensor) -> Tensor:
    return t if t.shape[0] > 1 else torch.cat([t, t])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _read(program: Any, example: list[Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    signature = program.graph_signature
    targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    state = {**program.state_dict, **program.constants}
    names: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    inputs: list[str] = []
    unrolled: dict[str, Unrolled] = {}
    for fx_node in program.graph.nodes:
        if fx_node.op == "placeholder":
            target = targets.get(fx_node.name) or constants.get(fx_node.name)
            if target is not None:
                names[fx_node.name] = target
                tensors[target] = state[target].detach().clone()
            else:
                names[fx_node.name] = fx_node.name
                inputs.append(fx_node.name)
        elif _starts_from_zero(fx_node):
            continue
        elif str(fx_node.target) in RECURRENT:
            unrolled[fx_node.name] = _unroll(fx_node, names)
            nodes += unrolled[fx_node.name].nodes
        elif fx_node.args and getattr(fx_node.args[0], "name", None) in unrolled:
            names[fx_node.name] = unrolled[fx_node.args[0].name].results[fx_node.args[1]]
        elif fx_node.op == "call_function" and isinstance(_value(fx_node), Tensor | tuple | list):
            names[fx_node.name] = fx_node.name
            nodes.append(_read_node(fx_node, names))
    outputs, keys = read_outputs(program, names)
    if not outputs:
        raise CaptureError(
            "a network must return at least one tensor with the batch first; return the logits"
        )
    graph = Graph(
        nodes=tuple(nodes),
        inputs=tuple(inputs),
        input_shapes=tuple(tuple(t.shape) for t in example),
        input_dtypes=tuple(str(t.dtype).removeprefix("torch.") for t in example),
        outputs=outputs,
        output_keys=keys,
    )
    return graph, tensors


def _starts_from_zero(fx_node: Any) -> bool:
    """Whether it is zeros that recurrent layers alone read: their state before the first step."""
    is_zero = str(fx_node.target) in _ZEROS
    return is_zero and all(str(user.target) in RECURRENT for user in fx_node.users)


def _unroll(fx_node: Any, names: Mapping[str, str]) -> Unrolled:
    def _read_state(state: Any) -> Arg:
        return None if _starts_from_zero(state) else Ref(names[state.name])

    x, states, *rest = fx_node.args
    known = pytree.tree_map(_read_state, states)
    args = (_read_arg(x, names), known, *(_read_arg(value, names) for value in rest))
    try:
        return unroll(fx_node.name, str(fx_node.target), args)
    except RecurrentError as error:
        raise CaptureError(str(error)) from None


def _value(fx_node: Any) -> Any:
    return fx_node.meta.get("val")


def _read_node(fx_node: Any, names: Mapping[str, str]) -> Node:
    target = fx_node.target
    if getattr(target, "__name__", "") == "getitem":
        source, index = fx_node.args
        args: tuple[Arg, ...] = (Ref(names[source.name]), index)
        return Node(name=fx_node.name, op=GETITEM, args=args, shape=())
    op = TRACED_AS.get(str(target), str(target))
    if op != NORM and op not in OPERATORS:
        raise CaptureError(
            f"operator {op} (value {fx_node.name!r}) is not known to paredown; "
            "rewrite it with standard operators, or add it to spaces/graph/operators.py"
        )
    if op == COPY and "dtype" in fx_node.kwargs:
        args = (Ref(names[fx_node.args[0].name]), fx_node.kwargs["dtype"])
        return Node(name=fx_node.name, op=CONVERT, args=args, shape=_static_shape(fx_node))
    filled = []
    for position, spec in enumerate(target._schema.arguments):
        if position < len(fx_node.args):
            value = fx_node.args[position]
        elif spec.name in fx_node.kwargs:
            value = fx_node.kwargs[spec.name]
        else:
            value = spec.default_value if spec.has_default_value() else None
        if spec.kwarg_only and (op in _IDENTITIES or spec.name not in fx_node.kwargs):
            continue  # a memory format changes no value
        if spec.kwarg_only:
            raise CaptureError(f"operator {op} with {spec.name}={value!r} is not supported")
        filled.append(_read_arg(value, names))
    return Node(name=fx_node.name, op=op, args=tuple(filled), shape=_static_shape(fx_node))


def _static_shape(fx_node: Any) -> tuple[int, ...]:
    # Sizes that depend on the batch are -1 until the example is run.
    value = _value(fx_node)
    if not isinstance(value, Tensor):
        return ()
    return tuple(size if isinstance(size, int) else -1 for size in value.shape)


def _read_arg(value: Any, names: Mapping[str, str]) -> Arg:
    if isinstance(value, torch.fx.Node):
        symbol = _value(value)
        return (
            _batch_multiple(symbol) if isinstance(symbol, torch.SymInt) else Ref(names[value.name])
        )
    if isinstance(value, torch.SymInt):
        return _batch_multiple(value)
    if isinstance(value, list | tuple):
        return tuple(_read_arg(item, names) for item in value)
    return value


def _batch_multiple(symbol: torch.SymInt) -> Batch:
    expression = symbol.node.expr
    symbols = tuple(expression.free_symbols)
    times = expression / symbols[0] if len(symbols) == 1 else None
    if times is None or times.free_symbols or int(times) != times:
        raise CaptureError(
            f"a shape is computed from the batch size as {expression}; only multiples of it can "
            "be kept: reshape with -1 or with fixed sizes instead"
        )
    return Batch(int(times))


def _skip_identities(graph: Graph) -> Graph:
    nodes: list[Node] = []
    stands_for: dict[str, str] = {}
    for node in graph.nodes:
        args = node.args
        for old in set(node.inputs) & stands_for.keys():
            args = rename_value(args, old, stands_for[old])
        if node.op in _IDENTITIES or _is_whole_slice(node):
            stands_for[node.name] = args[0].name
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
