"""The inputs that a layer's weight matrix multiplies, one column per output position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.spaces.graph.graph import Arg, Arguments
from paredown.spaces.structure.model_map import Layer

_CHUNK_VALUES = 2**22
"""Values of one chunk of columns: 16 MiB of float32, whatever the batch."""


def input_columns(layer: Layer, arguments: Arguments, samples: int = 1) -> Iterator[Tensor]:
    """Chunks (groups, K, positions): `to_matrix(weight) @ columns` is the output, bias aside.

    Args:
        layer: Any kind except embedding, whose inputs are token numbers.
        arguments: What the layer's ATen operator was called with.
        samples: No chunk ends within one of this many samples, see `items_per_sample`; 1 lets it
            end anywhere.
    """
    x = arguments[0].detach()
    if layer.kind in ("linear", "recurrent"):
        columns = x.reshape(-1, x.shape[-1])
        for chunk in columns.split(_items_at_once(x.shape[-1], len(columns), samples)):
            yield chunk.t().unsqueeze(0)
        return
    plain = _as_plain_convolution(layer, arguments)
    image = plain.padded()
    values = image[0].numel() * math.prod(plain.kernel) // math.prod(plain.stride)
    for chunk in image.split(_items_at_once(values, len(image), samples)):
        windows = _windows(chunk, plain)
        if layer.kind.startswith("conv_transpose"):
            # y = conv(stuffed x, flipped W): flip the windows instead of the weight.
            windows = windows.flip(1, 2)
        yield windows.reshape(layer.groups, -1, windows[0, 0, 0].numel())


def sampled_columns(layer: Layer, arguments: Arguments, count: int) -> Tensor:
    """About `count` columns (groups, K, positions) on a grid over all samples, one or more of each.

    `sampled_outputs` takes the same positions of the layer's outputs.
    """
    if layer.kind in ("linear", "recurrent"):
        rows = arguments[0].detach().reshape(-1, arguments[0].shape[-1])
        return rows[:: _step(len(rows), count)].t().unsqueeze(0)
    windows = _sampled_windows(_as_plain_convolution(layer, arguments), count)
    if layer.kind.startswith("conv_transpose"):
        windows = windows.flip(1, 2)
    return windows.reshape(layer.groups, -1, windows[0, 0, 0].numel())


def sampled_outputs(layer: Layer, output: Tensor, count: int) -> Tensor:
    """A layer's outputs (out, positions) where `sampled_columns` takes its inputs."""
    if layer.kind in ("linear", "recurrent"):
        rows = output.reshape(-1, output.shape[-1])
        return rows[:: _step(len(rows), count)].t()
    image = output.unsqueeze(2) if output.ndim == 3 else output
    down, right = _steps((len(image), *image.shape[2:]), count)
    return image[:, :, ::down, ::right].transpose(0, 1).flatten(1)


def _step(positions: int, count: int) -> int:
    return max(1, math.ceil(positions / count))


def _steps(sizes: Sequence[int], count: int) -> tuple[int, int]:
    """Distances down and to the right of a grid over (samples, height, width)."""
    shrink = math.prod(sizes) / count
    if sizes[1] == 1:
        return 1, max(1, math.ceil(shrink))
    return (max(1, math.ceil(math.sqrt(shrink))),) * 2


def items_per_sample(items: int, samples: int) -> int:
    """How many consecutive images (or rows of a linear layer) belong to one sample of a batch.

    Tokens folded into the batch are recognised by the number alone; where that is no multiple of the
    samples, every item counts as a sample of its own.
    """
    return items // samples if items % samples == 0 else 1


def _items_at_once(values: int, items: int, samples: int) -> int:
    together = items_per_sample(items, samples) if samples > 1 else 1
    return max(1, _CHUNK_VALUES // (values * together)) * together


@dataclass(frozen=True)
class _Convolution:
    """A layer's operator as a convolution over an image (N, C, H, W), `pads` around each axis."""

    image: Tensor
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Output positions along each axis."""
        sizes = (n + sum(p) for n, p in zip(self.image.shape[2:], self.pads, strict=True))
        reach = (d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True))
        return tuple(
            (n - r - 1) // s + 1 for n, r, s in zip(sizes, reach, self.stride, strict=True)
        )

    def padded(self) -> Tensor:
        """The image with its padding, as windows are read off it."""
        return F.pad(self.image, [side for pair in reversed(self.pads) for side in pair])


def _windows(image: Tensor, plain: _Convolution) -> Tensor:
    """View (C, kh, kw, N, OH, OW) of the values under the kernel at every output position.

    Copied once, by its reader, in the order that the Gram needs: `F.unfold` and a transposition
    take four times as long on a CPU.

    Args:
        image: Some of the padded images.
    """
    image = image.contiguous()
    by_batch, by_channel, *by_pixel = image.stride()
    steps = [d * p for d, p in zip(plain.dilation, by_pixel, strict=True)]
    jumps = [s * p for s, p in zip(plain.stride, by_pixel, strict=True)]
    return image.as_strided(
        (image.shape[1], *plain.kernel, len(image), *plain.counts),
        (by_channel, *steps, by_batch, *jumps),
    )


def _sampled_windows(plain: _Convolution, count: int) -> Tensor:
    """Values (C, kh, kw, N, h, w) under the kernel on a grid of about `count` output positions.

    One strided copy for each kernel position: padding and laying out whole images took as long as
    the layer's convolution.
    """
    image, counts = plain.image, plain.counts
    batch, channels = image.shape[:2]
    steps = _steps((batch, *counts), count)
    sizes = [-(-n // step) for n, step in zip(counts, steps, strict=True)]
    found = image.new_zeros(channels, *plain.kernel, batch, *sizes)
    for place in itertools.product(*map(range, plain.kernel)):
        (rows, top), (columns, left) = (
            _inside(plain, axis, at, steps[axis], sizes[axis]) for axis, at in enumerate(place)
        )
        seen = image[:, :, rows, columns].transpose(0, 1)
        found[:, place[0], place[1], :, top, left] = seen
    return found


def _inside(plain: _Convolution, axis: int, at: int, step: int, size: int) -> tuple[slice, slice]:
    """Where position `at` of the kernel meets the image, not its padding: pixels, and windows."""
    start = at * plain.dilation[axis] - plain.pads[axis][0]
    jump = plain.stride[axis] * step
    first = max(0, -(start // jump))
    end = max(first, min(size, -((start - plain.image.shape[2 + axis]) // jump)))
    read = start + first * jump
    return slice(read, read + (end - first) * jump, jump), slice(first, end)


def _as_plain_convolution(layer: Layer, arguments: Arguments) -> _Convolution:
    x = arguments[0].detach()
    dims = x.ndim - 2
    kernel = tuple(layer.weight_shape[2:])
    if layer.kind.startswith("conv_transpose"):
        stride, padding, extra, dilation = (_sizes(arguments[i], dims) for i in (3, 4, 5, 7))
        x = _stuff(x, stride)
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pads = [(r - p, r - p + e) for r, p, e in zip(reach, padding, extra, strict=True)]
        stride = (1,) * dims
    else:
        stride, dilation = _sizes(arguments[3], dims), _sizes(arguments[5], dims)
        pads = _pads(arguments[4], kernel, dilation)
    if dims == 1:
        x, pads = x.unsqueeze(2), [(0, 0), *pads]
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    return _Convolution(x, kernel, stride, dilation, tuple(pads))


def _pads(
    padding: Arg, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        # An odd total puts the extra value behind, as torch does.
        return [(total // 2, total - total // 2) for total in reach]
    return [(p, p) for p in _sizes(padding, len(kernel))]


def _sizes(value: Arg, dims: int) -> tuple[int, ...]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * dims if len(sizes) == 1 else sizes


def _stuff(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """`x` with stride - 1 zeros between values: a transposed convolution reads it at stride 1."""
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    stuffed = torch.zeros(*x.shape[:2], *sizes, dtype=x.dtype, device=x.device)
    where = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    stuffed[where] = x
    return stuffed
