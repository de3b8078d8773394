"""ONNX lowerings of operators that only move values: on 8-bit codes where there are codes."""

from __future__ import annotations

import sys
from typing import cast

import numpy as np
import torch

from paredown.compressors.models.codes import is_layout
from paredown.compressors.onnx.arithmetic import Lowering, unsupported
from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import Attribute
from paredown.spaces.graph.graph import Node, call


def _alias(e: Emitter, node: Node) -> None:
    e.put(node, *e.moved(node.args[0]))


def _convert(e: Emitter, node: Node) -> None:
    e.put(node, e.value(node.args[0], node.dtype))


def _reshape(e: Emitter, node: Node) -> None:
    """All shapes are known, so every view, flatten, squeeze and unsqueeze is one Reshape."""
    shape = e.shape(node.args[0])
    x, codes = e.moved(node.args[0])
    if e.graph.free:
        e.put(node, _freely_reshaped(e, node, x), codes)
    elif shape == node.shape:
        e.put(node, x, codes)
    elif len(node.shape) == 2 and shape[0] == node.shape[0]:
        e.put(node, e.plan.emit("Flatten", x), codes)
    else:
        e.put(node, e.plan.emit("Reshape", x, e.plan.integers(node.shape)), codes)


def _freely_reshaped(e: Emitter, node: Node, x: str) -> str:
    """The same where sizes may follow free axes."""
    rank = len(e.shape(node.args[0]))
    if node.op == "aten.flatten.using_ints":
        first, last = (int(d) % rank for d in node.args[1:])
        # 0 copies a size, which has its place only in front of what is flattened.
        if last != rank - 1:
            raise unsupported(node, "sizes that stay free behind flattened ones")
        return e.plan.emit("Reshape", x, e.plan.integers((*(0,) * first, -1)))
    if node.op in ("aten.view.default", "aten.reshape.default"):
        return e.plan.emit("Reshape", x, e.sizes.target(node.args[1]))
    axis = e.plan.integers((int(node.args[1]) % max(rank, len(node.shape)),))
    if node.op == "aten.unsqueeze.default":
        return e.plan.emit("Unsqueeze", x, axis)
    return x if rank == len(node.shape) else e.plan.emit("Squeeze", x, axis)


def _transpose(e: Emitter, node: Node) -> None:
    rank = len(node.shape)
    first, second = (int(d) % rank for d in node.args[1:])
    order = list(range(rank))
    order[first], order[second] = second, first
    x, codes = e.moved(node.args[0])
    e.put(node, e.plan.emit("Transpose", x, perm=tuple(order)), codes)


def _permute(e: Emitter, node: Node) -> None:
    order = tuple(int(d) % len(node.shape) for d in node.args[1])
    x, codes = e.moved(node.args[0])
    e.put(node, e.plan.emit("Transpose", x, perm=order), codes)


def _expand(e: Emitter, node: Node) -> None:
    x, codes = e.moved(node.args[0])
    # Expand keeps a size that is wider than 1, which is what -1 asks for.
    sizes = tuple(1 if size == -1 else size for size in node.args[1])
    shape = e.sizes.listed(sizes) if e.graph.free else e.plan.integers(node.shape)
    e.put(node, e.plan.emit("Expand", x, shape), codes)


def _slice(e: Emitter, node: Node) -> None:
    if e.shape(node.args[0]) == node.shape and not e.graph.free:
        _alias(e, node)
        return
    _, dim, start, end, step = node.args
    axis = int(dim) % len(node.shape)
    length = e.shape(node.args[0])[axis]
    if e.graph.free:  # the length may be another one
        stop = sys.maxsize if end is None else end
    else:
        stop = length if end is None else min(e.sizes.known(end), length)
    bounds = (0 if start is None else start, stop, axis, int(step))
    x, codes = e.moved(node.args[0])
    inputs = tuple(e.sizes.listed((b,)) for b in (bounds if step != 1 else bounds[:3]))
    e.put(node, e.plan.emit("Slice", x, *inputs), codes)


def _select(e: Emitter, node: Node) -> None:
    x, codes = e.moved(node.args[0])
    index = e.plan.integer(e.sizes.fixed(node)[2])
    axis = int(node.args[1]) % len(e.shape(node.args[0]))
    e.put(node, e.plan.emit("Gather", x, index, **({"axis": axis} if axis else {})), codes)


def _cat(e: Emitter, node: Node) -> None:
    values = tuple(e.value(arg, node.dtype) for arg in node.args[0])
    e.put(node, e.plan.emit("Concat", *values, axis=int(node.args[1]) % len(node.shape)))


def _stack(e: Emitter, node: Node) -> None:
    axis = int(node.args[1]) % len(node.shape)
    one = e.plan.integers((*node.shape[:axis], 1, *node.shape[axis + 1 :]))
    op_type, how = ("Unsqueeze", e.plan.integers((axis,))) if e.graph.free else ("Reshape", one)
    values = tuple(e.plan.emit(op_type, e.value(arg, node.dtype), how) for arg in node.args[0])
    e.put(node, e.plan.emit("Concat", *values, axis=axis))


_PAD_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


def _pad(e: Emitter, node: Node) -> None:
    amounts = tuple(int(a) for a in node.args[1])
    mode, number = node.args[2:] if len(node.args) > 3 else ("constant", node.args[2])
    free = len(node.shape) - len(amounts) // 2
    before, after = amounts[0::2][::-1], amounts[1::2][::-1]
    pads = e.plan.integers((*(0,) * free, *before, *(0,) * free, *after))
    x, codes = e.moved(node.args[0]) if is_layout(node) else (e.value(node.args[0]), None)
    attributes: dict[str, Attribute] = {} if mode == "constant" else {"mode": _PAD_MODES[mode]}
    fill = (codes.zero_point,) if codes else (e.value(number, node.dtype),) if number else ()
    e.put(node, e.plan.emit("Pad", x, pads, *fill, **attributes), codes)


def _split(e: Emitter, node: Node) -> None:
    """Pieces of one size along a dimension, or of given sizes."""
    _, how, dim = e.sizes.fixed(node)
    length = e.shape(node.args[0])[dim]
    if isinstance(how, tuple):
        _cut(e, node, tuple(int(size) for size in how))
    else:
        _cut(e, node, _equal_sizes(length, int(how)))


def _chunk(e: Emitter, node: Node) -> None:
    """So many pieces along a dimension, of which the last may be smaller."""
    _, count, dim = node.args
    length = e.shape(node.args[0])[dim]
    _cut(e, node, _equal_sizes(length, -(-length // int(count))))


def _equal_sizes(length: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, length - at) for at in range(0, length, step))


def _cut(e: Emitter, node: Node, sizes: tuple[int, ...]) -> None:
    axis = int(node.args[2]) % len(e.shape(node.args[0]))
    x, codes = e.moved(node.args[0])
    inputs = (x, e.plan.integers(sizes))
    e.put_several(node, e.plan.emit_many("Split", inputs, len(sizes), axis=axis), codes)


def _unbind(e: Emitter, node: Node) -> None:
    axis = int(node.args[1]) % len(e.shape(node.args[0]))
    x, codes = e.moved(node.args[0])
    used = {user.args[1] for user in e.graph.users.get(node.name, ())}
    length = e.shape(node.args[0])[axis]
    names = tuple(
        e.plan.emit("Gather", x, e.plan.integer(i), axis=axis) if i in used else ""
        for i in range(length)
    )
    e.put_several(node, names, codes)


def _upsample_nearest(e: Emitter, node: Node) -> None:
    """One Resize where it picks the pixels that torch picks; else they are picked one by one.

    Torch divides by the factor that was given, Resize by the ratio of the sizes that came of it: they
    differ wherever a factor does not divide.
    """
    x, codes = e.moved(node.args[0])
    sizes = e.shape(node.args[0])
    picked = _picked_pixels(node, sizes)
    if all(_resize_picks(size, index) for size, index in zip(sizes[2:], picked, strict=True)):
        modes: dict[str, Attribute] = {
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        e.put(node, e.plan.emit("Resize", x, "", "", *_resized(e, node, modes), **modes), codes)
        return
    for axis, index in enumerate(picked, start=2):
        if index != tuple(range(sizes[axis])):
            x = e.plan.emit("Gather", x, e.plan.integers(index), axis=axis)
    e.put(node, x, codes)


def _resized(e: Emitter, node: Node, attributes: dict[str, Attribute]) -> tuple[str]:
    """The sizes that a Resize leads to: of spatial dimensions alone where others are free."""
    if not e.graph.free:
        return (e.plan.integers(node.shape),)
    attributes["axes"] = tuple(range(2, len(node.shape)))
    return (e.plan.integers(node.shape[2:]),)


def _picked_pixels(node: Node, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Of each spatial dimension, the input's place that every output pixel is taken from.

    Torch itself says so, by what it makes of an image of places.
    """
    found = []
    for axis in range(2, len(shape)):
        place = [1] * len(shape)
        place[axis] = -1
        image = torch.arange(shape[axis]).float().view(place).expand(1, 1, *shape[2:]).contiguous()
        made = cast("torch.Tensor", call(node, (image, *node.args[1:])))
        line = made.movedim(axis, -1).reshape(-1, made.shape[axis])[0]
        found.append(tuple(int(i) for i in line))
    return tuple(found)


def _resize_picks(size: int, index: tuple[int, ...]) -> bool:
    """Whether a Resize to so many pixels, in single precision, takes the same ones."""
    ratio = np.float32(len(index)) / np.float32(size)
    taken = np.floor(np.arange(len(index), dtype=np.float32) / ratio).clip(0, size - 1)
    return tuple(int(i) for i in taken) == index


def _upsample_bilinear(e: Emitter, node: Node) -> None:
    _, _, align, factors = node.args
    mode = "align_corners" if align else "half_pixel"
    x = e.value(node.args[0])
    where: dict[str, Attribute] = {"mode": "linear", "coordinate_transformation_mode": mode}
    if factors:
        scales = e.plan.floats(np.array((1.0, 1.0, *factors), np.float32))
        e.put(node, e.plan.emit("Resize", x, "", scales, **where))
    else:
        e.put(node, e.plan.emit("Resize", x, "", "", *_resized(e, node, where), **where))


def _pixel_shuffle(e: Emitter, node: Node) -> None:
    if len(node.shape) != 4:
        raise unsupported(node, f"an output of shape {node.shape}")
    x, codes = e.moved(node.args[0])
    e.put(node, e.plan.emit("DepthToSpace", x, blocksize=int(node.args[1]), mode="CRD"), codes)


def _channel_shuffle(e: Emitter, node: Node) -> None:
    batch, channels, *rest = node.shape
    batch = 0 if e.graph.free else batch  # 0 copies the input's
    groups = int(node.args[1])
    x, codes = e.moved(node.args[0])
    split = e.plan.integers((batch, groups, channels // groups, *rest))
    order = (0, 2, 1, *range(3, 3 + len(rest)))
    turned = e.plan.emit("Transpose", e.plan.emit("Reshape", x, split), perm=order)
    whole = e.plan.integers((batch, *node.shape[1:]))
    e.put(node, e.plan.emit("Reshape", turned, whole), codes)


def _quantise(e: Emitter, node: Node) -> None:
    e.put_codes(node)


def _pick(e: Emitter, node: Node) -> None:
    e.pick(node)


LAYOUTS: dict[str, Lowering] = {
    "quantise": _quantise,
    "pick": _pick,
    "alias": _alias,
    "convert": _convert,
    "reshape": _reshape,
    "transpose": _transpose,
    "permute": _permute,
    "expand": _expand,
    "slice": _slice,
    "select": _select,
    "concat": _cat,
    "stack": _stack,
    "pad": _pad,
    "split": _split,
    "chunk": _chunk,
    "unbind": _unbind,
    "nearest": _upsample_nearest,
    "bilinear": _upsample_bilinear,
    "pixel_shuffle": _pixel_shuffle,
    "channel_shuffle": _channel_shuffle,
}
"""Lowerings of operators that move values, and of quantisation itself."""
