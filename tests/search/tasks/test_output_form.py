"""What a model returns is put together again around a graph's outputs."""

import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_structure

from paredown.search.tasks.output_form import OutputError, OutputForm, Rows, choose, read_form
from paredown.spaces.graph.capturing import as_inputs, capture
from paredown.spaces.graph.graph import run


class Returns(nn.Module):
    """Two logits heads and whatever else `shape(first, second, module)` puts beside them."""

    def __init__(self, shape):
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.shape = shape

    def forward(self, x):
        return self.shape(self.one(x), self.two(x), self)


SHAPES = {
    "tensor": lambda a, b, m: a,
    "one in a tuple": lambda a, b, m: (a,),
    "tuple": lambda a, b, m: (a, b),
    "dict": lambda a, b, m: {"logits": a},
    "constants": lambda a, b, m: {"loss": None, "logits": a, "classes": 3, "name": "x"},
    "none behind": lambda a, b, m: (a, None),
    "a parameter": lambda a, b, m: (m.scale, a),
    "nested": lambda a, b, m: {"heads": [b, (a, None)], "scale": m.scale, "kept": 0.5},
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_graph_gives_comes_back_as_the_module_returned_it(name):
    torch.manual_seed(0)
    module, x = Returns(SHAPES[name]).eval(), torch.randn(5, 4)
    form = pickle.loads(pickle.dumps(read_form(module, [x], "task.model")))  # as workers get it
    captured = capture(module, [x[:1]])
    with torch.no_grad():
        returned = module(x)
    rebuilt = form.rebuilt(form.tensors(returned))
    leaves, structure = tree_flatten(rebuilt)
    assert structure == tree_structure(returned)
    for ours, theirs in zip(leaves, tree_leaves(returned), strict=True):
        assert torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs
    assert len(captured.graph.outputs) == len(form.tensors(returned))
    outputs = run(captured.graph, captured.tensors, [x])
    for ours, theirs in zip(outputs, form.tensors(returned), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_networks_that_return_other_things_do_not_agree():
    plain, pair = OutputForm(), OutputForm((Rows(0), Rows(1)))
    assert plain.agrees_with(OutputForm())
    assert not plain.agrees_with(pair)
    assert not pair.agrees_with(OutputForm((Rows(0), 3)))


def test_a_module_that_is_random_is_not_blamed_for_its_batch():
    noisy = Returns(lambda a, b, m: a + torch.randn_like(a))
    assert read_form(noisy, [torch.randn(4, 4)], "task.model") == OutputForm()


def test_rows_that_depend_on_each_other_are_refused():
    normed = Returns(lambda a, b, m: a / a.norm())
    with pytest.raises(OutputError, match="whatever else is in its batch"):
        read_form(normed, [torch.randn(4, 4)], "task.model")


def test_an_input_that_skips_an_optional_argument_reaches_its_own():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x, shift=None, *, scale=None):
            x = self.fc(x)
            x = x if shift is None else x + shift
            return x if scale is None else x * scale

    module = Optional().eval()
    rows = {"x": torch.randn(3, 4), "scale": torch.full((3, 1), 2.0)}
    captured = capture(module, rows)
    (found,) = run(captured.graph, captured.tensors, as_inputs(captured.graph, rows))
    torch.testing.assert_close(found, module(**rows))


class Record(OrderedDict[str, Any]):
    """What a library returns: fields by name."""


class OfLibrary(nn.Module):
    def forward(self, x: Tensor) -> Record:
        return Record(logits=x * 2, states=(x + 1, x + 2))


def test_of_a_record_the_first_tensor_is_the_output_and_the_rest_is_named() -> None:
    module = OfLibrary()
    (notice,) = choose(module, (), [torch.ones(2, 3)], "task.model: m:f")
    assert notice == (
        "task.model: m:f: OfLibrary: the output is its first tensor, without states.0, states.1; set "
        "task.outputs for others"
    )
    form = read_form(module, [torch.ones(2, 3)], "task.model")
    assert torch.equal(form.tensors(module(torch.ones(4, 3)))[0], torch.full((4, 3), 2.0))


def test_outputs_are_those_that_the_task_names() -> None:
    module = OfLibrary()
    choose(module, ("states.1", "logits"), [torch.ones(2, 3)], "task.model: m:f")
    assert list(module(torch.ones(1, 3))) == ["states.1", "logits"]
    with pytest.raises(OutputError, match=r"one of logits, states\.0, states\.1, got hidden"):
        choose(OfLibrary(), ("hidden",), [torch.ones(2, 3)], "task.model: m:f")


def test_a_module_of_plain_outputs_is_left_alone() -> None:
    module = nn.Linear(3, 2)
    assert choose(module, (), [torch.ones(2, 3)], "task.model: m:f") == []
    assert not module._forward_hooks
