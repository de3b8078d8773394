"""A capture computes what its module computes, at any batch size, and leaves the module alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.capture.capturing import Captured, CaptureError, as_inputs, capture
from paredown.spaces.graph.graph import run

Difference = Callable[[nn.Module, Captured, Any], float]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_capture_computes_what_its_module_computes(
    zoo: Any,
    captured: Callable[[str], Captured],
    difference: Difference,
    zoo_name: str,
    batch_size: int,
) -> None:
    build, example = zoo[zoo_name]
    assert difference(build(), captured(zoo_name), example(batch_size)) < 1e-5


def test_the_zoo_stays_small(zoo: Any, zoo_name: str) -> None:
    assert sum(p.numel() for p in zoo[zoo_name][0]().parameters()) < 300_000


def test_the_module_and_its_mode_are_left_alone(zoo: Any) -> None:
    module = zoo["vgg"][0]().train()
    module.features[1].eval()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    capture(module, zoo["vgg"][1](1))
    assert module.training
    assert not module.features[1].training
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


def test_dict_inputs_may_come_in_any_order(zoo: Any, difference: Difference) -> None:
    build, example = zoo["two_inputs"]
    batch = example(2)
    swapped = dict(reversed(batch.items()))
    assert list(swapped) != list(batch)
    captured = capture(build(), swapped)
    assert captured.graph.inputs == ("image", "numbers")
    assert difference(build(), captured, swapped) < 1e-5
    assert as_inputs(captured.graph, swapped)[1] is batch["numbers"]


class Identities(nn.Module):
    """Dropout, clone and slices that take everything, around one half of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x.clone())[:, :, ::2]


def test_operators_that_do_nothing_are_gone() -> None:
    captured = capture(Identities(), torch.randn(1, 2, 4))
    assert [(n.op, n.args[1:]) for n in captured.graph.nodes if n.op != "aten.slice.Tensor"] == []
    (node,) = captured.graph.nodes
    assert (node.args[1], node.args[4]) == (2, 2)
    assert node.shape == (1, 2, 2)


class Strided(nn.Module):
    """Shuffled channels: a view of a transposed tensor, which needs a copy first."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), 2, 3, 4).transpose(1, 2).reshape(x.size(0), 6, 4)


def test_views_of_strided_values_are_copied_as_needed(difference: Difference) -> None:
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    captured = capture(Strided(), x)
    assert difference(Strided(), captured, x) == 0
    assert not [node for node in captured.graph.nodes if "clone" in node.op]


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_an_operator_that_draws_random_numbers_is_named() -> None:
    with pytest.raises(CaptureError, match=r"aten\.rand.*draws random numbers"):
        capture(Random(), torch.randn(2, 3))


def test_control_flow_on_data_is_refused_with_the_remedy() -> None:
    with pytest.raises(CaptureError, match=r"Branching cannot be traced.*control flow"):
        capture(Branching(), torch.randn(2, 3))


class LengthOfBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(len(x), 1)], 1)


def test_a_batch_that_is_traced_as_a_number_is_refused_with_the_remedy() -> None:
    with pytest.raises(CaptureError, match=r"any number of rows, got on 1 rows.*x\.shape\[0\]"):
        capture(LengthOfBatch(), torch.randn(1, 3))


def test_the_hook_sees_every_operator_and_may_replace_its_output(
    zoo: Any, captured: Callable[[str], Captured]
) -> None:
    lenet, example = captured("lenet"), zoo["lenet"][1](2)
    seen: list[str] = []

    def zero(node: Any, _: Any, output: Tensor) -> Tensor:
        seen.append(node.name)
        return output * 0 if node.name == lenet.graph.outputs[0] else output

    (output,) = run(lenet.graph, lenet.tensors, [example], after=zero)
    assert seen == [node.name for node in lenet.graph.nodes]
    assert not output.any()


def test_inputs_by_names_that_forward_does_not_have_are_refused() -> None:
    with pytest.raises(CaptureError, match=r"arguments of Linear\.forward.*got x, y: "):
        capture(nn.Linear(3, 2), {"x": torch.zeros(1, 3), "y": torch.zeros(1)})
