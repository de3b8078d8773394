"""A graph is held against its module: what differs is refused and named, what agrees passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.spaces.capture.capturing import Captured, CaptureError, capture
from paredown.spaces.capture.hold import check_graph, check_repeatable, difference, module_outputs

Zoo = dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]]


class Of(nn.Module):
    """A module from a function of its layer and input."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.layer = nn.Linear(8, 8)
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def rows() -> Tensor:
    return torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(1))


def counted(m: Any, x: Tensor) -> Tensor:
    m.calls += 1
    return m.layer(x) * m.calls


def test_every_network_of_the_zoo_holds(
    zoo_name: str, zoo: Zoo, captured: Callable[[str], Captured]
) -> None:
    build, example = zoo[zoo_name]
    module = build()
    check_repeatable(module, example(5))
    check_graph(module, captured(zoo_name), example(5))


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda m, x: F.dropout(m.layer(x)), "draws random numbers .aten.bernoulli"),
        (lambda m, x: m.layer(x) + torch.randn_like(x), "draws random numbers .aten.randn_like"),
        (
            # Attention may draw, for its dropout; here it does not, and is not accused.
            lambda m, x: F.scaled_dot_product_attention(x, x, x) + torch.rand_like(m.layer(x)),
            "draws random numbers .aten.rand_like",
        ),
        (counted, "keeps something from call to call"),
    ],
)
def test_a_module_that_answers_differently_is_refused_with_the_cause(
    function: Any, cause: str
) -> None:
    with pytest.raises(CaptureError, match=f"Of must give the same .* eval mode.*{cause}"):
        check_repeatable(Of(function), rows())


def test_dropout_that_follows_the_mode_is_no_reason_to_refuse() -> None:
    module = Of(lambda m, x: F.dropout(m.layer(x), training=m.training)).train()
    check_repeatable(module, rows())
    check_graph(module, capture(module, rows()), rows())
    assert module.training


def test_a_forward_that_acts_differently_while_it_is_traced_is_refused() -> None:
    def traced(m: Any, x: Tensor) -> Tensor:
        y = m.layer(x).relu()
        return y.neg().exp() if torch.compiler.is_exporting() else y

    module = Of(traced)
    found = capture(module, rows())
    (other,) = (n.name for n in found.graph.nodes if n.op == "aten.neg.default")
    with pytest.raises(
        CaptureError, match=rf"6 rows, first in value '{other}' \(aten.neg.default\)"
    ):
        check_graph(module, found, rows())


def test_the_first_wrong_value_is_named_behind_folded_norms_and_not_what_follows() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
    ).eval()
    nn.init.normal_(module[1].running_mean)
    x = torch.randn(4, 3, 9, 9)
    found = capture(module, x)
    check_graph(module, found, x)
    wrong = {n: t * 2 if n == "3.weight" else t for n, t in found.tensors.items()}
    second = [n.name for n in found.graph.nodes if n.op == "aten.conv2d.default"][1]
    with pytest.raises(CaptureError, match=f"first in value '{second}'"):
        check_graph(module, replace(found, tensors=wrong), x)


def test_swapped_outputs_are_refused_though_every_value_is_right() -> None:
    module = Of(lambda m, x: (m.layer(x), m.layer(x).relu()))
    found = capture(module, rows())
    swapped = replace(found, graph=replace(found.graph, outputs=found.graph.outputs[::-1]))
    with pytest.raises(CaptureError, match="first in the outputs"):
        check_graph(module, swapped, rows())


def test_a_graph_of_one_number_of_rows_is_refused_with_the_remedy() -> None:
    module = Of(lambda m, x: m.layer(x) + torch.zeros(len(x)).view(-1, *(1,) * (x.ndim - 1)))
    found = capture(module, rows()[:2])
    with pytest.raises(CaptureError, match=r"any number of rows.*x\.shape\[0\]"):
        check_graph(module, found, torch.cat([rows(), rows()]))


def test_inputs_are_not_changed_by_a_module_that_works_in_place() -> None:
    x = rows()
    before = x.clone()
    module_outputs(Of(lambda m, x: m.layer(x.mul_(2))), x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([1.0, -torch.inf], [1.0, -torch.inf], 0.0),
        ([1.0, -torch.inf], [1.0, torch.inf], torch.inf),
        ([1.0, torch.nan], [1.0, torch.nan], 0.0),
        ([1.0, 2.0], [1.0, torch.nan], torch.inf),
        ([1, 2, 3, 4], [1, 2, 3, 5], 0.25),
        ([1, 2], [1.0, 2.0], torch.inf),
        ([1.0], [1.0, 1.0], torch.inf),
        ([], [], 0.0),
    ],
)
def test_differences_by_hand(wanted: Any, found: Any, expected: float) -> None:
    assert difference(torch.tensor(wanted), torch.tensor(found)) == expected
