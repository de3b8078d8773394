"""Tries every channel group and block before it becomes a knob.

A group is right if zeroing some of its channels everywhere gives the same outputs as removing
them. Structure is what is tested, so weights are stirred a little (a block that starts at zero
would hide any mistake) and computed in float64.

All groups are tried at once, each with a random number of random channels, so that one wrongly tied to
another has channels of its own to be seen by. Only where that fails are they tried half by half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from paredown.spaces.channels.parts import Part
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Graph, Node, run
from paredown.spaces.graph.names import CONVERT
from paredown.spaces.structure.blocks import bypass_blocks
from paredown.spaces.structure.model_map import Block, ChannelGroup, LeftOut, ModelMap
from paredown.spaces.structure.slicing import kept_positions, narrow_graph, slice_tensors

TOLERANCE = 1e-5
"""Largest difference between zeroed and removed channels, relative to the largest output."""

Hook = Callable[[Node, Arguments, Result], Result]

# Odd and above one, so that a reshape which mixes batch and channels shows.
_BATCH = 3


def verified(
    model_map: ModelMap, tensors: Mapping[str, Tensor], example: Sequence[Tensor], seed: int = 0
) -> ModelMap:
    """The map without the groups and blocks that fail; each of those is listed in `left_out`.

    Args:
        example: Inputs that the network runs on: whole numbers are drawn from theirs.
    """
    generator = torch.Generator().manual_seed(seed)
    dtype = _check_dtype(model_map.graph)
    stirred = {name: _stirred(t, dtype, generator) for name, t in tensors.items()}
    inputs = [_drawn(x, generator, dtype) for x in example]

    def _failure(names: Sequence[str]) -> str | None:
        groups = [group for group in model_map.groups if group.name in names]
        return _group_failure(model_map, stirred, inputs, groups, generator)

    failed = _failures([group.name for group in model_map.groups], _failure)
    return _verified_blocks(without_groups(model_map, failed), stirred, inputs)


def _failures(
    names: Sequence[str], failure: Callable[[Sequence[str]], str | None]
) -> dict[str, str]:
    """Those of `names` that are not right, and why; the others are right together.

    Args:
        failure: Why these names are not right together, None where they are.
    """
    failed: dict[str, str] = {}
    right: list[str] = []
    pending = [list(names)] if names else []
    while pending:
        part = pending.pop()
        together = failure([*right, *part])
        if together is None:
            right += part
        elif len(part) > 1:
            middle = len(part) // 2
            pending += [part[middle:], part[:middle]]
        else:
            alone = failure(part) if right else together
            failed[part[0]] = alone or f"right alone, but not with the others: {together}"
    return {name: failed[name] for name in names if name in failed}


def _drawn(example: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Random floats of batch size 3; whole numbers and truth values as the example has them."""
    shape = (_BATCH, *example.shape[1:])
    if example.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=dtype)
    places = torch.randint(example.numel(), shape, generator=generator)
    return example.flatten()[places]


def without_groups(model_map: ModelMap, reasons: Mapping[str, str]) -> ModelMap:
    """The map without the groups named in `reasons`, which are listed in `left_out` instead."""
    if not reasons:
        return model_map

    def _freeze(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(Part(None, p.channels * p.repeat) if p.group in reasons else p for p in parts)

    tensor_parts = {key: _freeze(parts) for key, parts in model_map.tensor_parts.items()}
    value_parts = {v: (dim, _freeze(parts)) for v, (dim, parts) in model_map.value_parts.items()}
    dropped = tuple(g for g in model_map.groups if g.name in reasons)
    return replace(
        model_map,
        groups=tuple(g for g in model_map.groups if g.name not in reasons),
        tensor_parts={key: parts for key, parts in tensor_parts.items() if _is_open(parts)},
        value_parts={v: pair for v, pair in value_parts.items() if _is_open(pair[1])},
        left_out=(
            *model_map.left_out,
            *(
                LeftOut(what=f"channels of {', '.join(g.producers)}", reason=reasons[g.name])
                for g in dropped
            ),
        ),
    )


def _is_open(parts: tuple[Part, ...]) -> bool:
    return any(part.group is not None for part in parts)


def _check_dtype(graph: Graph) -> torch.dtype:
    # Floats that a graph makes itself, by converting or of whole numbers, are float32 as written;
    # they would meet float64 in one operator.
    makes_floats = any(node.op == CONVERT or _turns_float(graph, node) for node in graph.nodes)
    return torch.float32 if makes_floats else torch.float64


def _turns_float(graph: Graph, node: Node) -> bool:
    read = [graph.dtype_of(name) for name in node.inputs if name in graph.values]
    return "float" in node.dtype and bool(read) and not any("float" in dtype for dtype in read)


def _stirred(t: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if not t.is_floating_point():
        return t
    # Vectors are only raised, because variances must stay positive.
    random = torch.randn if t.ndim > 1 else torch.rand
    fan_in = max(t[0].numel(), 1) if t.ndim > 1 and len(t) > 0 else 1
    noise = random(t.shape, generator=generator, dtype=dtype)
    return noise.mul_(0.1 / fan_in**0.5).add_(t)


def _group_failure(
    model_map: ModelMap,
    tensors: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    groups: Sequence[ChannelGroup],
    generator: torch.Generator,
) -> str | None:
    """Why the groups cannot be cut together; None where zeroed equals removed.

    Two cuts: what one keeps the other removes, so that no channel's mistake stays among the zeros.
    """
    orders = {g.name: torch.randperm(g.channels, generator=generator) for g in groups}
    counts = {g.name: _random_count(g.channels, generator) for g in groups}
    first = {name: order[: counts[name]] for name, order in orders.items()}
    # A single channel has no complement: it stays.
    second = {
        name: order[counts[name] :] if len(order) > 1 else order for name, order in orders.items()
    }
    for keep in (first, second):
        ascending = {name: kept.sort().values for name, kept in keep.items()}
        if reason := _cut_failure(model_map, tensors, inputs, ascending):
            return reason
    return None


def _cut_failure(
    model_map: ModelMap,
    tensors: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    keep: Mapping[str, Tensor],
) -> str | None:
    widths = {name: len(kept) for name, kept in keep.items()}
    try:
        narrow = narrow_graph(model_map, model_map.graph, widths)
        # One after the other: never are all three versions of the tensors in memory.
        zeroed = run(model_map.graph, _zeroed(model_map, tensors, keep), inputs)
        sliced = slice_tensors(model_map, tensors, keep)
        removed = run(narrow, sliced, inputs, after=_demand_shapes(model_map.graph))
    except (RuntimeError, IndexError, ValueError) as error:
        return f"cannot be removed: {str(error).splitlines()[0]}"
    for a, b in zip(zeroed, removed, strict=True):
        if a.shape != b.shape:
            return f"removing channels changes an output from {tuple(a.shape)} to {tuple(b.shape)}"
        difference = (a - b).abs().max() / a.abs().max().clamp_min(1e-30)
        # Written so that NaN fails too.
        if not difference <= TOLERANCE:
            return (
                f"removing channels and zeroing them differ by {float(difference):.1e}, relative"
            )
    return None


def _random_count(channels: int, generator: torch.Generator) -> int:
    """One to two thirds of the channels, at least one; never all of several."""
    low, high = max(1, channels // 3), max(1, channels - max(1, channels // 3))
    return int(torch.randint(low, high + 1, (), generator=generator))


def _zeroed(
    model_map: ModelMap, tensors: Mapping[str, Tensor], keep: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All tensors at full size, with zeros wherever they belong to a removed channel."""
    result = dict(tensors)
    for (name, dim), parts in model_map.tensor_parts.items():
        if any(part.group in keep for part in parts):
            is_gone = torch.ones(result[name].shape[dim], dtype=torch.bool)
            is_gone[kept_positions(parts, keep)] = False
            whole = result[name].clone() if result[name] is tensors[name] else result[name]
            result[name] = whole.index_fill_(dim, is_gone.nonzero().flatten(), 0)
    return result


def _demand_shapes(graph: Graph) -> Hook:
    """A hook for `run`: every output must have the shape its node claims, the batch as it is here."""

    def _demand(node: Node, _: Arguments, output: Result) -> Result:
        if isinstance(output, Tensor) and not _agree(node.shape, output.shape):
            raise ValueError(f"{node.name} claims shape {node.shape}, gives {tuple(output.shape)}")
        return output

    def _agree(claimed: Sequence[int], given: Sequence[int]) -> bool:
        pairs = list(zip(claimed, given, strict=False))
        grow = [(a, b) for a, b in pairs if a != b]
        fits = all(a * _BATCH == b * graph.batch_size for a, b in grow)
        return len(claimed) == len(given) and len(grow) <= 1 and fits

    return _demand


def _verified_blocks(
    model_map: ModelMap, tensors: Mapping[str, Tensor], inputs: Sequence[Tensor]
) -> ModelMap:
    graph, blocks = model_map.graph, model_map.blocks
    if not blocks:
        return model_map
    expected = [tuple(t.shape) for t in run(graph, tensors, inputs)]

    def _failure(names: Sequence[str]) -> str | None:
        skipped = tuple(block for block in blocks if block.name in names)
        return _skip_failure(graph, skipped, tensors, inputs, expected)

    failed = _failures([block.name for block in blocks], _failure)
    return replace(
        model_map,
        blocks=tuple(block for block in blocks if block.name not in failed),
        left_out=(
            *model_map.left_out,
            *(LeftOut(what=f"block {name}", reason=reason) for name, reason in failed.items()),
        ),
    )


def _skip_failure(
    graph: Graph,
    blocks: tuple[Block, ...],
    tensors: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    expected: list[tuple[int, ...]],
) -> str | None:
    """Why the blocks cannot be skipped together, or None."""
    short = bypass_blocks(graph, blocks)
    if any(block.output in short.by_name for block in blocks):
        return "something else still reads its sum"
    try:
        outputs = run(short, tensors, inputs, after=_demand_shapes(graph))
    except (RuntimeError, IndexError, ValueError) as error:
        return f"cannot be skipped: {str(error).splitlines()[0]}"
    shapes = [tuple(t.shape) for t in outputs]
    return None if shapes == expected else f"skipping it changes outputs to {shapes}"
