"""Of records that a library made, the first tensor is the output, or those that are asked for."""

from __future__ import annotations

import pickle
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.graph.capturing import capture
from paredown.spaces.graph.choosing import (
    OutputsError,
    choose_outputs,
    choosing,
    chosen_outputs,
    left_out,
)
from paredown.spaces.graph.hold import check_graph


class Record(OrderedDict[str, Any]):
    """As libraries return it: fields by name, some of them absent, and a cache."""


class Cache:
    """Holds tensors, and is no container."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


@dataclass
class Fields:
    loss: Tensor | None
    logits: Tensor
    states: tuple[Tensor, ...]


Pair = namedtuple("Pair", ("first", "second"))


class Library(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Record:
        y = self.layer(x)
        return Record(loss=None, logits=y, states=(x * 2, y + 1), cache=Cache(y))


def test_containers_of_python_stay_as_they_are() -> None:
    x = torch.ones(2)
    for returned in (x, (x, None), [x], {"a": {"b": x}}, Pair(x, 1.5), OrderedDict(a=x)):
        assert chosen_outputs(returned) is returned
        assert left_out(returned) == ()


def test_of_a_record_the_first_tensor_is_taken_and_the_others_are_named() -> None:
    x = torch.ones(2, 4)
    returned = Library()(x)
    assert chosen_outputs(returned) is returned["logits"]
    assert left_out(returned) == ("states.0", "states.1", "cache")
    fields = Fields(torch.tensor(0.0), x, (x + 1,))
    assert chosen_outputs(fields) is x
    assert left_out(fields) == ("loss", "states.0")


def test_outputs_are_asked_for_by_path() -> None:
    returned = Library()(torch.ones(2, 4))
    assert chosen_outputs(returned, ["states.1"]) is returned["states"][1]
    both = chosen_outputs(returned, ["logits", "states.0"])
    assert both == {"logits": returned["logits"], "states.0": returned["states"][0]}
    with pytest.raises(
        OutputsError, match=r"one of logits, states\.0, states\.1, got hidden; set"
    ):
        chosen_outputs(returned, ["hidden"])


def test_a_module_is_captured_with_its_first_output() -> None:
    module, x = Library(), torch.randn(3, 4)
    captured = capture(module, x)
    assert captured.graph.output_keys == ("",)
    check_graph(module, captured, x)
    assert isinstance(module(x), Record)


def test_a_module_is_captured_with_the_outputs_that_were_chosen() -> None:
    module, x = Library(), torch.randn(3, 4)
    choose_outputs(module, ["states.1", "logits"])
    module = pickle.loads(pickle.dumps(module))
    captured = capture(module, x)
    assert captured.graph.output_keys == ("states.1", "logits")
    check_graph(module, captured, x)


def test_choosing_ends() -> None:
    module, x = Library(), torch.randn(3, 4)
    with choosing(module):
        assert isinstance(module(x), Tensor)
    assert isinstance(module(x), Record)
