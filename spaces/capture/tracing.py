"""Reads what torch.export traced into a graph and its tensors, operator by operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from paredown.spaces.capture.captured_outputs import read_outputs
from paredown.spaces.capture.fold import NORM
from paredown.spaces.capture.layers_of_steps import RECURRENT, RecurrentError, Unrolled, unroll
from paredown.spaces.graph.core import keywords_of, obstacle
from paredown.spaces.graph.functions import GETITEM
from paredown.spaces.graph.graph import Arg, Graph, Node, Ref
from paredown.spaces.graph.names import CONVERT, COPY, TRACED_AS
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.graph.sizes import BATCH, TIME, Size, SizeError, read_size
from paredown.spaces.system.errors import ParedownError

_ZEROS = ("aten.zeros.default", "aten.new_zeros.default", "aten.zeros_like.default")


class CaptureError(ParedownError):
    """The module cannot be traced into a graph of known operators."""


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program in functional form, without operators that have neither entry nor core."""
    known = {*OPERATORS, *RECURRENT, *TRACED_AS, NORM}
    targets = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    if targets <= known:
        return program.run_decompositions({})
    table = torch.export.default_decompositions()
    return program.run_decompositions(
        {target: how for target, how in table.items() if str(target) not in known}
    )


def read_program(
    program: ExportedProgram, example: list[Tensor], lengths: tuple[int, int] = (0, 0)
) -> tuple[Graph, dict[str, Tensor]]:
    """The graph of a traced module, and the tensors that it reads.

    Raises:
        CaptureError: A size cannot be kept, or there is no output.
    """
    stored = _stored(program)
    names: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    inputs: list[str] = []
    unrolled: dict[str, Unrolled] = {}
    axes = _axes(program)
    needed = _needed(program.graph)
    for fx_node in program.graph.nodes:
        if fx_node.op == "placeholder":
            if fx_node.name in stored:
                names[fx_node.name], tensor = stored[fx_node.name]
                tensors[names[fx_node.name]] = tensor.detach().clone()
            else:
                names[fx_node.name] = fx_node.name
                inputs.append(fx_node.name)
        elif _starts_from_zero(fx_node):
            continue
        elif str(fx_node.target) in RECURRENT:
            unrolled[fx_node.name] = _unroll(fx_node, names, axes)
            nodes += unrolled[fx_node.name].nodes
        elif fx_node.args and getattr(fx_node.args[0], "name", None) in unrolled:
            names[fx_node.name] = unrolled[fx_node.args[0].name].results[fx_node.args[1]]
        elif fx_node in needed and isinstance(_value(fx_node), Tensor | tuple | list):
            names[fx_node.name] = fx_node.name
            nodes.append(_read_node(fx_node, names, axes))
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
        timed=tuple(name for name in inputs if _has_time(program, name)),
        lengths=lengths,
    )
    return graph, tensors


def _stored(program: ExportedProgram) -> dict[str, tuple[str, Tensor]]:
    """Of the parameters, buffers and constants, the path and the tensor, by their name in the trace."""
    signature = program.graph_signature
    paths = {
        **signature.inputs_to_lifted_tensor_constants,
        **signature.inputs_to_buffers,
        **signature.inputs_to_parameters,
    }
    state = {**program.state_dict, **program.constants}
    return {name: (path, state[path]) for name, path in paths.items()}


def is_identity(node: Node) -> bool:
    """Whether in eval mode a node only renames a value."""
    return node.op in OPERATORS and OPERATORS[node.op].is_identity


def check_operators(graph: Graph) -> None:
    """Refuses a graph with an operator that cannot be run.

    Raises:
        CaptureError: An operator writes, draws random numbers, or is no core operator of ATen.
    """
    for node in graph.nodes:
        if node.op != NORM and node.op not in OPERATORS:
            raise CaptureError(
                f"operator {node.op} (value {node.name!r}) is not known to paredown: it "
                f"{obstacle(node.op)}; rewrite it with standard operators, or add it to "
                "spaces/graph/operators.py"
            )


def _value(fx_node: fx.Node) -> Any:
    return fx_node.meta.get("val")


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that outputs depend on: checks of types and sizes are none of them."""
    found: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found


def _axes(program: ExportedProgram) -> dict[Any, str]:
    """Names of the symbols that are sizes of inputs."""
    found: dict[Any, str] = {}
    users = program.graph_signature.user_inputs
    for fx_node in program.graph.nodes:
        value = _value(fx_node)
        if fx_node.op == "placeholder" and fx_node.name in users and isinstance(value, Tensor):
            for size, name in zip(value.shape, (BATCH, TIME), strict=False):
                if isinstance(size, torch.SymInt) and _is_free(size):
                    found[size.node.expr] = name
    return found


def _has_time(program: ExportedProgram, name: str) -> bool:
    """Whether dimension 1 of an input may have any length: the module may have fixed it."""
    value = next(_value(node) for node in program.graph.nodes if node.name == name)
    return value.dim() > 1 and _is_free(value.shape[1])


def _is_free(size: int | torch.SymInt) -> bool:
    # Inputs keep a symbol for a size that tracing has fixed.
    return isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None


def _read_node(fx_node: fx.Node, names: Mapping[str, str], axes: Mapping[Any, str]) -> Node:
    target = fx_node.target
    name = fx_node.name
    if getattr(target, "__name__", "") == "getitem":
        source, index = fx_node.args
        assert isinstance(source, fx.Node)
        return Node(name=name, op=GETITEM, args=(Ref(names[source.name]), index), shape=())
    op = TRACED_AS.get(str(target), str(target))
    assert isinstance(target, torch._ops.OpOverload)
    shape = _static_shape(fx_node)
    if op == COPY and "dtype" in fx_node.kwargs:
        (source,) = fx_node.args
        assert isinstance(source, fx.Node)
        args: tuple[Arg, ...] = (Ref(names[source.name]), fx_node.kwargs["dtype"])
        return Node(name=name, op=CONVERT, args=args, shape=shape)
    values = _arguments(fx_node, target)
    return Node(
        name=name, op=op, args=tuple(_read_arg(v, names, axes) for v in values), shape=shape
    )


def _arguments(fx_node: fx.Node, target: torch._ops.OpOverload) -> list[Any]:
    """Values in schema order with defaults filled in, up to the last that is given by name alone."""
    given = dict(fx_node.kwargs)
    filled = []
    for position, spec in enumerate(target._schema.arguments):
        if not spec.kwarg_only:
            named = given.get(spec.name, spec.default_value)
            filled.append(fx_node.args[position] if position < len(fx_node.args) else named)
    if str(target) in OPERATORS and OPERATORS[str(target)].is_identity:
        return filled
    defaults = {spec.name: spec.default_value for spec in target._schema.arguments}
    keywords = [given.get(name, defaults[name]) for name in keywords_of(target)]
    while keywords and keywords[-1] == defaults[keywords_of(target)[len(keywords) - 1]]:
        keywords.pop()
    return filled + keywords


def _starts_from_zero(fx_node: fx.Node) -> bool:
    """Whether it is zeros that recurrent layers alone read: their state before the first step."""
    is_full = str(fx_node.target) == "aten.full.default" and fx_node.args[1] == 0
    is_zero = is_full or str(fx_node.target) in _ZEROS
    return is_zero and all(str(user.target) in RECURRENT for user in fx_node.users)


def _unroll(fx_node: fx.Node, names: Mapping[str, str], axes: Mapping[Any, str]) -> Unrolled:
    def _read_state(state: fx.Node) -> Arg:
        return None if _starts_from_zero(state) else Ref(names[state.name])

    x, states, *rest = fx_node.args
    known = pytree.tree_map(_read_state, states)
    args = (_read_arg(x, names, axes), known, *(_read_arg(v, names, axes) for v in rest))
    try:
        return unroll(fx_node.name, str(fx_node.target), args)
    except RecurrentError as error:
        raise CaptureError(str(error)) from None


def _static_shape(fx_node: fx.Node) -> tuple[int, ...]:
    # Sizes that depend on the inputs are -1 until the example is run.
    value = _value(fx_node)
    if not isinstance(value, Tensor):
        return ()
    return tuple(size if isinstance(size, int) else -1 for size in value.shape)


def _read_arg(value: Any, names: Mapping[str, str], axes: Mapping[Any, str]) -> Arg:
    if isinstance(value, fx.Node):
        meant = _value(value)
        return _size(meant, axes) if isinstance(meant, torch.SymInt) else Ref(names[value.name])
    if isinstance(value, torch.SymInt):
        return _size(value, axes)
    if isinstance(value, list | tuple):
        return tuple(_read_arg(item, names, axes) for item in value)
    return value


def _size(symbol: torch.SymInt, axes: Mapping[Any, str]) -> int | Size:
    try:
        return read_size(symbol.node.expr, axes)
    except SizeError as error:
        raise CaptureError(
            f"a shape is computed from the sizes of the inputs as {error}; only sums, products and "
            "quotients of them can be kept: reshape with -1 or with fixed sizes instead"
        ) from None
