"""Core operators of ATen that have no entry of their own: run as they are, and known by their tags."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paredown.spaces.graph.facts import LIBRARY, ChannelRule, OnnxRename, OperatorFacts, WorkKind

# Where and how a tensor lies changes none of its values.
_PLACES = ("layout", "device", "pin_memory", "memory_format", "generator")


_LOWERED: Mapping[str, str] = {
    "lt": "less",
    "le": "at_most",
    "gt": "greater",
    "ge": "at_least",
    "eq": "equal",
    "ne": "unequal",
    "bitwise_and": "bitwise_and",
    "bitwise_or": "bitwise_or",
    "bitwise_xor": "bitwise_xor",
    "remainder": "remainder",
}
"""Core operators of a tensor and a tensor or number, with their lowerings."""

WRITTEN: Mapping[str, str | OnnxRename] = {
    **{f"{n}.{of}": form for n, form in _LOWERED.items() for of in ("Scalar", "Tensor")},
    "bitwise_not.default": "bitwise_not",
    "logical_and.default": "logical_and",
    "logical_or.default": "logical_or",
    "logical_xor.default": "logical_xor",
    "logical_not.default": "logical_not",
    "where.self": "where",
    "arange.start_step": "range",
    "full.default": "full",
    "full_like.default": "full_like",
    "gather.default": "gather",
    "index.Tensor": "index",
    "index_select.default": "index_select",
    "cumsum.default": "cumsum",
    "repeat.default": "repeat",
    "var.correction": "variance",
    "div.Tensor_mode": "rounded_quotient",
    **{
        f"{n}.default": OnnxRename(n.title())
        for n in ["sin", "cos", "ceil", "floor", "round", "sign"]
    },
}
"""Core operators of which no more is known than how we write them to ONNX, without "aten."."""


_SELECTING = ("gather.default", "index.Tensor", "index_select.default", "repeat.default")
"""Core operators whose results are values of their first argument, without "aten."."""


def overload_of(op: str) -> torch._ops.OpOverload | None:
    """The operator by its name in a graph, "aten.NAME.OVERLOAD"; None where there is none."""
    parts = op.split(".")
    if len(parts) != 3 or parts[0] != "aten":
        return None
    found = getattr(getattr(torch.ops.aten, parts[1], None), parts[2], None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def keywords_of(overload: torch._ops.OpOverload) -> tuple[str, ...]:
    """Arguments that are given by name alone and change values, in the order of a node's last ones."""
    arguments = overload._schema.arguments
    return tuple(a.name for a in arguments if a.kwarg_only and a.name not in _PLACES)


def obstacle(op: str) -> str | None:
    """Why an operator that has no entry of its own cannot be run; None where it can."""
    overload = overload_of(op)
    if overload is None:
        return "is no operator of ATen"
    if torch.Tag.nondeterministic_seeded in overload.tags:
        return "draws random numbers"
    if overload._schema.is_mutable:
        return "writes into its arguments"
    if torch.Tag.core not in overload.tags:
        return "is no core operator of ATen"
    if op.startswith("aten.empty"):
        return "gives values that nothing determines"
    if any(
        not str(each.type).startswith(("Tensor", "List[Tensor"))
        for each in overload._schema.returns
    ):
        return "gives no tensor"
    return None


@functools.cache
def function_of(overload: torch._ops.OpOverload) -> Callable[..., Any]:
    """The operator as a function of a node's arguments, those by name alone after the others."""
    arguments = overload._schema.arguments
    names, places = keywords_of(overload), sum(not a.kwarg_only for a in arguments)
    # What reads no tensor makes its values on the default device, which is where the graph runs.
    is_source = not any("Tensor" in str(a.type) for a in arguments)
    has_device = is_source and any(a.name == "device" for a in arguments)
    if not names and not has_device:
        return overload

    def _run(*arguments: Any) -> Tensor | Sequence[Tensor]:
        by_name = dict(zip(names, arguments[places:], strict=False))
        if has_device:
            by_name["device"] = torch.get_default_device()
        return overload(*arguments[:places], **by_name)

    return _run


def core_facts(op: str) -> OperatorFacts | None:
    """The careful facts of a core operator without an entry: None where it cannot be run."""
    overload = overload_of(op)
    if overload is None or obstacle(op) is not None:
        return None
    returns = overload._schema.returns
    return OperatorFacts(
        function_of(overload),
        WRITTEN.get(op.removeprefix("aten."), LIBRARY),
        _kind(overload),
        ChannelRule("binary") if torch.Tag.pointwise in overload.tags else None,
        selects=op.removeprefix("aten.") in _SELECTING,
        has_several_outputs=len(returns) > 1 or str(returns[0].type).startswith("List"),
    )


def _kind(overload: torch._ops.OpOverload) -> WorkKind:
    if torch.Tag.reduction in overload.tags:
        return "pool"
    return "activation" if torch.Tag.pointwise in overload.tags else "move"


class Table(dict[str, OperatorFacts]):
    """Facts by operator; those of a core operator without an entry are careful ones."""

    def __missing__(self, op: str) -> OperatorFacts:
        found = core_facts(op)
        if found is None:
            raise KeyError(op)
        return found

    def __contains__(self, op: object) -> bool:
        return super().__contains__(op) or (isinstance(op, str) and obstacle(op) is None)
