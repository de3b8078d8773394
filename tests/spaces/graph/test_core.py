"""Core operators run as torch runs them; others are refused with the reason."""

from __future__ import annotations

import pytest
import torch

from paredown.spaces.graph.core import function_of, keywords_of, obstacle, overload_of


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("aten.rand_like.default", "draws random numbers"),
        ("aten.bernoulli.p", "draws random numbers"),
        ("aten.add_.Tensor", "writes into its arguments"),
        ("aten.empty.memory_format", "nothing determines"),
        ("aten.linalg_qr.default", "no core operator"),
        ("aten._local_scalar_dense.default", "gives no tensor"),
        ("os.system", "no operator of ATen"),
        ("prims.add.default", "no operator of ATen"),
        ("aten.add.NoSuch", "no operator of ATen"),
        ("aten.__class__.__name__", "no operator of ATen"),
    ],
)
def test_what_cannot_be_run_is_refused(op: str, reason: str) -> None:
    assert reason in str(obstacle(op))


@pytest.mark.parametrize(
    "op", ["aten.cumsum.default", "aten.arange.start_step", "aten.sin.default"]
)
def test_core_operators_are_run(op: str) -> None:
    assert obstacle(op) is None


def test_arguments_by_name_alone_come_last() -> None:
    overload = overload_of("aten.var.correction")
    assert overload is not None
    assert keywords_of(overload) == ("correction", "keepdim")
    x = torch.randn(3, 5)
    found = function_of(overload)(x, [1], 0, True)
    torch.testing.assert_close(found, x.var(1, correction=0, keepdim=True))
    torch.testing.assert_close(function_of(overload)(x, [1]), x.var(1))


def test_numbers_are_made_where_the_graph_runs() -> None:
    overload = overload_of("aten.full.default")
    assert overload is not None
    with torch.device("meta"):
        assert function_of(overload)([2, 3], 1.5).device.type == "meta"
    assert function_of(overload)([2], 7, torch.int64).tolist() == [7, 7]
