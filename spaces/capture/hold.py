"""Holds a captured graph against the module it was read from: on real rows both must give the same.

Tracing sees one path through a forward, folding and conversion rewrite what it saw: whatever goes wrong
there would make everything after it about another network. A value of the graph that the module never
computes is found by looking for it among all tensors that the module makes, whatever their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from paredown.spaces.capture.capturing import (
    Captured,
    CaptureError,
    as_inputs,
    evaluating,
    refusing_rows,
)
from paredown.spaces.capture.choosing import chosen_outputs
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Node, run

TOLERANCE = 1e-3
"""Largest difference of an output, relative to its largest value: folding and other kernels round."""
_WHOLE_TOLERANCE = 0.01
"""Share of whole numbers that may differ: an argmax tips where two values are nearly one."""
_SAME_CALL = 1e-5
"""The same for two calls of one module, which differ by the order of sums at most."""
_NAMED_ROWS = 2

Outputs = tuple[Tensor, ...]


def all_tensors(returned: Any) -> Outputs:
    """Every tensor in what a module returned, in the order of the captured graph's outputs."""
    return tuple(x for x in pytree.tree_leaves(returned) if isinstance(x, Tensor))


def module_outputs(
    module: nn.Module, batch: Any, tensors: Callable[[Any], Outputs] = all_tensors
) -> Outputs:
    """The module's output tensors in eval mode, in the order of the captured graph's.

    Args:
        batch: A tensor, a tuple or list of arguments, or a dict of keyword arguments; it is copied.
        tensors: Which tensors of what the module returns are outputs; others may be constants.
    """
    batch = pytree.tree_map_only(Tensor, torch.clone, batch)
    with evaluating(module), torch.no_grad():
        if isinstance(batch, Mapping):
            found = module(**batch)
        else:
            found = module(*batch) if isinstance(batch, tuple | list) else module(batch)
    return tensors(chosen_outputs(found))


def check_repeatable(module: nn.Module, batch: Any) -> None:
    """Refuses a module that gives two answers to the same rows.

    Raises:
        CaptureError: Two calls in eval mode differ; the message names what draws random numbers.
    """
    first, second = module_outputs(module, batch), module_outputs(module, batch)
    worst = disagreement(first, second, same_call=True)
    if worst is None:
        return
    random = _random_operator(module, batch)
    cause = "it keeps something from call to call; make its forward depend on its inputs alone"
    if random is not None:
        cause = (
            f"it draws random numbers ({random}); draw none in eval mode, as a dropout does with "
            "training=self.training"
        )
    raise CaptureError(
        f"{type(module).__name__} must give the same for the same rows in eval mode, got two calls that "
        f"differ by {worst}: {cause}"
    )


def check_graph(
    module: nn.Module,
    captured: Captured,
    batch: Any,
    tensors: Callable[[Any], Outputs] = all_tensors,
) -> None:
    """Refuses a graph that computes something else than its module, whose outputs are `tensors`.

    Raises:
        CaptureError: The graph does not run on these rows, or an output differs in number, type, shape or
            value; the message names the first value of the graph that the module does not compute.
    """
    graph = captured.graph
    wanted = module_outputs(module, batch, tensors)
    with refusing_rows(module, len(as_inputs(graph, batch)[0])):
        found = run_graph(captured, batch)
    worst = disagreement(wanted, found)
    if worst is None:
        return
    raise CaptureError(
        f"the graph read off {type(module).__name__} must give what the module gives, got outputs that "
        f"differ by {worst} on {len(as_inputs(graph, batch)[0])} rows, first in "
        f"{_first_other(module, captured, batch)}; write that part of forward with other operators, and "
        "alike whether it is traced or run"
    )


def run_graph(captured: Captured, batch: Any) -> Outputs:
    """What the captured graph gives for a batch as the user's data gives it."""
    with torch.no_grad():
        return run(captured.graph, captured.tensors, as_inputs(captured.graph, batch))


def difference(wanted: Tensor, found: Tensor) -> float:
    """Largest difference as a share of the largest finite value of `wanted`.

    Of whole numbers and truth values it is the share that differs. Infinite where types, shapes or the
    places of NaN and infinities differ.
    """
    if wanted.dtype != found.dtype or wanted.shape != found.shape:
        return torch.inf
    if not wanted.is_floating_point():
        return float((wanted != found).double().mean()) if wanted.numel() else 0.0
    finite = wanted.isfinite()
    if not torch.equal(wanted[~finite].nan_to_num(), found[~finite].nan_to_num()):
        return torch.inf
    if not bool(found[finite].isfinite().all()):
        return torch.inf
    ours, theirs = wanted[finite].double(), found[finite].double()
    if not ours.numel():
        return 0.0
    off = float((ours - theirs).abs().max())
    return off / max(float(ours.abs().max()), torch.finfo(torch.float32).tiny)


def disagreement(wanted: Outputs, found: Outputs, same_call: bool = False) -> str | None:
    """How far outputs differ, in words; None where they agree up to rounding.

    Args:
        same_call: Whether both were computed by the same operators, so that they round alike.
    """
    if len(wanted) != len(found):
        return f"their number ({len(wanted)} and {len(found)})"
    for ours, theirs in zip(wanted, found, strict=True):
        is_float = ours.is_floating_point()
        limit = TOLERANCE if is_float else _WHOLE_TOLERANCE
        off = difference(ours, theirs)
        if off <= (_SAME_CALL if same_call else limit):
            continue
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return f"their form ({_form(ours)} and {_form(theirs)})"
        if off == torch.inf:
            return "infinities or NaN"
        return f"{off:.2g} of the largest value" if is_float else f"{off:.2g} of the numbers"
    return None


def _form(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"


def _random_operator(module: nn.Module, batch: Any) -> str | None:
    """The first operator that may draw random numbers and does: it gives two things in two calls."""
    drawn: list[list[tuple[str, Outputs]]] = []
    for _ in range(2):
        with _Recorder() as recorder:
            module_outputs(module, batch)
        drawn.append(recorder.drawn)
    for (name, first), (_, second) in zip(*drawn, strict=False):
        if disagreement(first, second, same_call=True) is not None:
            return name
    return None


class _Recorder(TorchDispatchMode):
    """Notes every tensor that operators make, and what those make that may draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[str, Outputs]] = []
        self.made: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Copied at once: an operator in place may change it later.
        made = tuple(x.detach().clone() for x in pytree.tree_leaves(result) if _is_plain(x))
        self.made += made
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.drawn.append((str(func), made))
        return result


def _is_plain(x: Any) -> bool:
    return isinstance(x, Tensor) and x.layout == torch.strided and not x.is_meta


def _first_other(module: nn.Module, captured: Captured, batch: Any) -> str:
    """The first value of the graph that is none of what the module computes, with its operator."""
    inputs = [x[:_NAMED_ROWS] for x in as_inputs(captured.graph, batch)]
    rows = pytree.tree_map_only(Tensor, lambda x: x[:_NAMED_ROWS], batch)
    with _Recorder() as recorder:
        module_outputs(module, rows)
    is_made = _lookup([*recorder.made, *inputs, *module.parameters(), *module.buffers()])
    other: list[Node] = []

    def _look(node: Node, _: Arguments, output: Result) -> Result:
        parts = (output,) if isinstance(output, Tensor) else output
        if not other and not all(is_made(part) for part in parts):
            other.append(node)
        return output

    with torch.no_grad():
        run(captured.graph, captured.tensors, inputs, after=_look)
    if other:
        return f"value {other[0].name!r} ({other[0].op})"
    return f"the outputs {', '.join(captured.graph.outputs)}"


def _lookup(made: Sequence[Tensor]) -> Callable[[Tensor], bool]:
    """Whether a tensor is among those made, under whatever shape."""
    by_count: dict[int, list[Tensor]] = {}
    for x in made:
        by_count.setdefault(x.numel(), []).append(x.detach().flatten())

    def _is_made(value: Tensor) -> bool:
        flat = value.flatten()
        same = (x for x in by_count.get(flat.numel(), ()) if x.dtype == flat.dtype)
        limit = TOLERANCE if flat.is_floating_point() else _WHOLE_TOLERANCE
        return any(difference(x, flat) <= limit for x in same)

    return _is_made
