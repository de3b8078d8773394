"""Values are moved as torch moves them, with every kind of argument."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.compressors.onnx.lowering import lower


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


def _padded() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    for amounts in ((1, 2), (1, 2, 0, 3), (-1, 2), (-1, -2, 0, 1), (1, 1, 1, 1, 1, 1)):
        for value in (0, 1.5):
            name = f"pad {amounts} with {value}"
            yield name, lambda x, a=amounts, v=value: F.pad(x, a, value=v), image()
    for mode, amounts in itertools.product(
        ("reflect", "replicate", "circular"), ((1, 2, 0, 3), (0, 0, 1, 3))
    ):
        yield f"{mode} {amounts}", lambda x, a=amounts, m=mode: F.pad(x, a, mode=m), image()


def _cut() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    whole = slice(None)
    cuts = [slice(1, -1), slice(None, None, 2), slice(-3, None), slice(-5, -2, 2), slice(2, 100)]
    cuts += [slice(-100, 5), slice(-1, None), slice(1, None, 4)]
    for axis, cut in itertools.product((1, 2, 3), cuts):
        place = (*(whole,) * axis, cut)
        yield f"cut {cut} of {axis}", lambda x, p=place: x[p], image()


@pytest.mark.parametrize("cases", [_resized, _padded, _cut])
def test_the_runtime_gives_what_torch_gives(cases: Any, check_as_torch: Any) -> None:
    check_as_torch(cases())


@pytest.mark.parametrize("size", [1, 7, 12, 29])
def test_nearest_pixels_of_every_size_are_torchs(
    size: int, together: Any, identity: Any, run_onnx: Any
) -> None:
    """An image of places, so that a wrong pixel shows whatever its value."""
    x = torch.arange(size * size).float().view(1, 1, size, size)
    module = together([lambda x, n=n: F.interpolate(x, size=n) for n in range(1, 40)])
    found, _ = run_onnx(identity(module, x), x)
    for ours, theirs in zip(module(x), found, strict=True):
        assert torch.equal(theirs, ours)


def test_nearest_pixels_of_a_factor_are_those_at_its_multiples(
    of: Any, identity: Any, run_onnx: Any
) -> None:
    # Pixel i of 0.4 times as many is taken at i / 0.4: 0, 2.5 and 5 of nine, not 0, 3 and 6.
    x = torch.arange(9).float().view(1, 1, 1, 9).expand(1, 1, 9, 9).contiguous()
    (found,), _ = run_onnx(identity(of(lambda x: F.interpolate(x, scale_factor=0.4)), x), x)
    assert found[0, 0].tolist() == [[0.0, 2.0, 5.0]] * 3


def test_a_factor_that_divides_stays_one_resize(of: Any, identity: Any) -> None:
    proto = lower(identity(of(lambda x: F.interpolate(x, scale_factor=2)), image()))
    assert [node.op_type for node in proto.graph.node] == ["Resize"]
