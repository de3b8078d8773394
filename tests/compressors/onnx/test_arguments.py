"""Operators with every kind of argument: ONNX Runtime gives what torch gives, or the export refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.plan import ExportError


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def image(size: int | tuple[int, int] = 9) -> Tensor:
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(2, 4, height, width)


def _resized() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    factors: list[Any] = [0.1, 0.4, 0.7, 1 / 3, 1.0, 1.5, 2, 2.3, 3, (0.4, 1.7)]
    sizes = [(1, 1), (2, 3), (13, 5), (9, 11), (18, 22), (20, 7)]
    how: list[dict[str, Any]] = [{"size": s} for s in sizes]
    how += [
        {"scale_factor": f, "recompute_scale_factor": r}
        for f, r in itertools.product(factors, (None, True))
    ]
    modes: list[dict[str, Any]] = [{"mode": "nearest"}]
    modes += [{"mode": "bilinear", "align_corners": corners} for corners in (False, True)]
    for kind, mode in itertools.product(how, modes):
        arguments = {**kind, **mode}
        yield f"{arguments}", lambda x, a=arguments: F.interpolate(x, **a), image((10, 11))


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


def _padded() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    for amounts in ((1, 2), (1, 2, 0, 3), (-1, 2), (-1, -2, 0, 1), (1, 1, 1, 1, 1, 1)):
        for value in (0, 1.5):
            name = f"pad {amounts} with {value}"
            yield name, lambda x, a=amounts, v=value: F.pad(x, a, value=v), image()
    for mode, amounts in itertools.product(
        ("reflect", "replicate", "circular"), ((1, 2, 0, 3), (0, 0, 1, 3))
    ):
        yield f"{mode} {amounts}", lambda x, a=amounts, m=mode: F.pad(x, a, mode=m), image()


def _transposed() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    choices = itertools.product((1, 2, 3), (0, 1), (0, 1), (1, 2), (1, 2))
    for stride, padding, more, dilation, groups in choices:
        if more >= max(stride, dilation) or (more >= stride and more > padding):
            continue
        layer = nn.ConvTranspose2d(4, 6, 3, stride, padding, more, groups, True, dilation)
        name = f"transposed stride {stride} padding {padding} more {more} by {dilation}, {groups}"
        yield name, layer, image()


def _reduced() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    dims: list[Any] = [1, -1, (2, 3), (1, 2), (1, 2, 3), (-1, 1)]
    for dim, keep in itertools.product(dims, (False, True)):
        yield f"mean {dim} {keep}", lambda x, d=dim, k=keep: x.mean(d, keepdim=k), image()
        yield f"sum {dim} {keep}", lambda x, d=dim, k=keep: x.sum(d, keepdim=k), image()
    for axis in (1, -1, 2, -2):
        yield f"softmax {axis}", nn.Softmax(axis), image()
        yield f"log softmax {axis}", nn.LogSoftmax(axis), image()
        yield f"argmax {axis}", lambda x, d=axis: x.argmax(d), image()


def _cut() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    whole = slice(None)
    cuts = [slice(1, -1), slice(None, None, 2), slice(-3, None), slice(-5, -2, 2), slice(2, 100)]
    cuts += [slice(-100, 5), slice(-1, None), slice(1, None, 4)]
    for axis, cut in itertools.product((1, 2, 3), cuts):
        place = (*(whole,) * axis, cut)
        yield f"cut {cut} of {axis}", lambda x, p=place: x[p], image()


def _activated() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    for beta, threshold in ((1, 20), (2, 20), (1, 0.5), (3, 1), (0.5, 16), (1, 17)):
        yield f"softplus {beta} {threshold}", nn.Softplus(beta, threshold), 8 * image()
    for low, high in ((None, 0.5), (-0.5, None), (-0.5, 0.5), (0, 1)):
        yield f"clamp {low} {high}", lambda x, a=low, b=high: x.clamp(a, b), image()
    for power in (2, 3, 0.5, -1, 0, 1, 2.5):
        yield f"power {power}", lambda x, p=power: (x.abs() + 0.1) ** p, image()
    yield "cube of negatives", lambda x: x**3, image()
    for slope in (0.01, -0.5, 2.0):
        yield f"leaky {slope}", nn.LeakyReLU(slope), image()
    yield "subtracted", lambda x: torch.rsub(x, 2) - (2 - x) / (x.abs() + 1), image()


def _normed() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    for shape, affine in itertools.product(((9,), (9, 9), (4, 9, 9)), (True, False)):
        norm = nn.LayerNorm(shape, eps=1e-3, elementwise_affine=affine)
        yield f"layer norm {shape} {affine}", norm, image()
    for affine in (True, False):
        yield f"group norm {affine}", nn.GroupNorm(2, 4, affine=affine), image()
        yield f"instance norm {affine}", nn.InstanceNorm2d(4, affine=affine), image()
        yield f"batch norm {affine}", nn.BatchNorm2d(4, eps=1e-2, affine=affine), image()


CASES = {
    "resizing": _resized,
    "pools": _pooled,
    "pads": _padded,
    "transposed convolutions": _transposed,
    "reductions": _reduced,
    "slices": _cut,
    "activations": _activated,
    "norms": _normed,
}


class All(nn.Module):
    """Many functions of one input: traced and run once, which is what takes the time."""

    def __init__(self, functions: list[Any]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(f if isinstance(f, nn.Module) else Of(f) for f in functions)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


@pytest.mark.parametrize("kind", CASES)
def test_the_runtime_gives_what_torch_gives(kind: str, identity: Any, run_onnx: Any) -> None:
    cases = list(CASES[kind]())
    for shape in {x.shape for _, _, x in cases}:
        names = [name for name, _, x in cases if x.shape == shape]
        module = All([f for _, f, x in cases if x.shape == shape]).eval()
        x = 4 * torch.randn(shape)
        with torch.no_grad():
            wanted = module(x)
        found, _ = run_onnx(identity(module, x), x)
        for name, ours, theirs in zip(names, wanted, found, strict=True):
            torch.testing.assert_close(
                theirs, ours, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_output_padding_that_no_lowering_can_express_is_refused(identity: Any) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, 1, 0, 1, dilation=2)
    with pytest.raises(ExportError, match="output_padding"):
        lower(identity(layer, image()))


@pytest.mark.parametrize("size", [1, 7, 12, 29])
def test_nearest_pixels_of_every_size_are_torchs(size: int, identity: Any, run_onnx: Any) -> None:
    """An image of places, so that a wrong pixel shows whatever its value."""
    x = torch.arange(size * size).float().view(1, 1, size, size)
    module = All([lambda x, n=n: F.interpolate(x, size=n) for n in range(1, 40)])
    found, _ = run_onnx(identity(module, x), x)
    for ours, theirs in zip(module(x), found, strict=True):
        assert torch.equal(theirs, ours)


def test_nearest_pixels_of_a_factor_are_those_at_its_multiples(
    identity: Any, run_onnx: Any
) -> None:
    # Pixel i of 0.4 times as many is taken at i / 0.4: 0, 2.5 and 5 of nine, not 0, 3 and 6.
    x = torch.arange(9).float().view(1, 1, 1, 9).expand(1, 1, 9, 9).contiguous()
    (found,), _ = run_onnx(identity(Of(lambda x: F.interpolate(x, scale_factor=0.4)), x), x)
    assert found[0, 0].tolist() == [[0.0, 2.0, 5.0]] * 3


def test_a_factor_that_divides_stays_one_resize(identity: Any) -> None:
    proto = lower(identity(Of(lambda x: F.interpolate(x, scale_factor=2)), image()))
    assert [node.op_type for node in proto.graph.node] == ["Resize"]
