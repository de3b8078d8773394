"""Pools and reductions with every kind of argument: ONNX Runtime gives what torch gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def image(size: int | tuple[int, int] = 9) -> Tensor:
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(2, 4, height, width)


def _pooled() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    choices = itertools.product((7, 8), (2, 3), (None, 1, 2, 3), (0, 1), (False, True))
    for size, kernel, stride, padding, ceil in choices:
        name = f"of {size} by {kernel}, stride {stride}, padding {padding}, ceil {ceil}"
        for dilation in (1, 2):
            pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
            yield f"max {name}, dilation {dilation}", pool, image(size)
        for counted in (False, True):
            average = nn.AvgPool2d(kernel, stride, padding, ceil, counted)
            yield f"average {name}, pads counted {counted}", average, image(size)


def _reduced() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    dims: list[Any] = [1, -1, (2, 3), (1, 2), (1, 2, 3), (-1, 1)]
    for dim, keep in itertools.product(dims, (False, True)):
        yield f"mean {dim} {keep}", lambda x, d=dim, k=keep: x.mean(d, keepdim=k), image()
        yield f"sum {dim} {keep}", lambda x, d=dim, k=keep: x.sum(d, keepdim=k), image()
    for axis in (1, -1, 2, -2):
        yield f"softmax {axis}", nn.Softmax(axis), image()
        yield f"log softmax {axis}", nn.LogSoftmax(axis), image()
        yield f"argmax {axis}", lambda x, d=axis: x.argmax(d), image()


@pytest.mark.parametrize("cases", [_pooled, _reduced])
def test_the_runtime_gives_what_torch_gives(cases: Any, check_as_torch: Any) -> None:
    check_as_torch(cases())
