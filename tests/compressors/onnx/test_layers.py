"""Layers and norms with every kind of argument: ONNX Runtime gives what torch gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.plan import ExportError


def image(size: int | tuple[int, int] = 9) -> Tensor:
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(2, 4, height, width)


def _transposed() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    choices = itertools.product((1, 2, 3), (0, 1), (0, 1), (1, 2), (1, 2))
    for stride, padding, more, dilation, groups in choices:
        if more >= max(stride, dilation) or (more >= stride and more > padding):
            continue
        layer = nn.ConvTranspose2d(4, 6, 3, stride, padding, more, groups, True, dilation)
        name = f"transposed stride {stride} padding {padding} more {more} by {dilation}, {groups}"
        yield name, layer, image()


def _normed() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    for shape, affine in itertools.product(((9,), (9, 9), (4, 9, 9)), (True, False)):
        norm = nn.LayerNorm(shape, eps=1e-3, elementwise_affine=affine)
        yield f"layer norm {shape} {affine}", norm, image()
    for affine in (True, False):
        yield f"group norm {affine}", nn.GroupNorm(2, 4, affine=affine), image()
        yield f"instance norm {affine}", nn.InstanceNorm2d(4, affine=affine), image()
        yield f"batch norm {affine}", nn.BatchNorm2d(4, eps=1e-2, affine=affine), image()


@pytest.mark.parametrize("cases", [_transposed, _normed])
def test_the_runtime_gives_what_torch_gives(cases: Any, check_as_torch: Any) -> None:
    check_as_torch(cases())


def test_output_padding_that_no_lowering_can_express_is_refused(identity: Any) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, 1, 0, 1, dilation=2)
    with pytest.raises(ExportError, match="output_padding"):
        lower(identity(layer, image()))
