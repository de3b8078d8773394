"""ONNX lowerings of operators that only move values: on 8-bit codes where there are codes."""

from __future__ import annotations

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
    if shape == node.shape:
        e.put(node, x, codes)
    elif len(node.shape) == 2 and shape[0] == node.shape[0]:
        e.put(node, e.plan.emit("Flatten", x), codes)
    else:
        e.put(node, e.plan.emit("Reshape", x, e.plan.integers(node.shape)), codes)


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
    e.put(node, e.plan.emit("Expand", x, e.plan.integers(node.shape)), codes)


def _slice(e: Emitter, node: Node) -> None:
    if e.shape(node.args[0]) == node.shape:
        _alias(e, node)
        return
    _, dim, start, end, step = node.args
    axis = int(dim) % len(node.shape)
    length = e.shape(node.args[0])[axis]
    stop = length if end is None else min(e.size(end), length)
    bounds = (0 if start is None else e.size(start), stop, axis, int(step))
    x, codes = e.moved(node.args[0])
    inputs = tuple(e.plan.integers((b,)) for b in (bounds if step != 1 else bounds[:3]))
    e.put(node, e.plan.emit("Slice", x, *inputs), codes)


def _select(e: Emitter, node: Node) -> None:
    x, codes = e.moved(node.args[0])
    index = e.plan.integer(e.size(node.args[2]))
    axis = int(node.args[1]) % len(e.shape(node.args[0]))
    e.put(node, e.plan.emit("Gather", x, index, **({"axis": axis} if axis else {})), codes)


def _cat(e: Emitter, node: Node) -> None:
    values = tuple(e.value(arg, node.dtype) for arg in node.args[0])
    e.put(node, e.plan.emit("Concat", *values, axis=int(node.args[1]) % len(node.shape)))


def _stack(e: Emitter, node: Node) -> None:
    axis = int(node.args[1]) % len(node.shape)
    one = e.plan.integers((*node.shape[:axis], 1, *node.shape[axis + 1 :]))
    values = tuple(e.plan.emit("Reshape", e.value(arg, node.dtype), one) for arg in node.args[0])
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
    _, how, dim = node.args
    length = e.shape(node.args[0])[dim]
    if isinstance(how, tuple):
        _cut(e, node, tuple(e.size(size) for size in how))
    else:
        _cut(e, node, _equal_sizes(length, e.size(how)))


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
        modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        e.put(node, e.plan.emit("Resize", x, "", "", e.plan.integers(node.shape), **modes), codes)
        return
    for axis, index in enumerate(picked, start=2):
        if index != tuple(range(sizes[axis])):
            x = e.plan.emit("Gather", x, e.plan.integers(index), axis=axis)
    e.put(node, x, codes)


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
        e.put(node, e.plan.emit("Resize", x, "", "", e.plan.integers(node.shape), **where))


def _pixel_shuffle(e: Emitter, node: Node) -> None:
    if len(node.shape) != 4:
        raise unsupported(node, f"an output of shape {node.shape}")
    x, codes = e.moved(node.args[0])
    e.put(node, e.plan.emit("DepthToSpace", x, blocksize=int(node.args[1]), mode="CRD"), codes)


def _channel_shuffle(e: Emitter, node: Node) -> None:
    batch, channels, *rest = node.shape
    groups = int(node.args[1])
    x, codes = e.moved(node.args[0])
    split = e.plan.integers((batch, groups, channels // groups, *rest))
    order = (0, 2, 1, *range(3, 3 + len(rest)))
    turned = e.plan.emit("Transpose", e.plan.emit("Reshape", x, split), perm=order)
    e.put(node, e.plan.emit("Reshape", turned, e.plan.integers(node.shape)), codes)


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
