"""What a trainer may change is checked: values and scales, and nothing else."""

from dataclasses import dataclass, replace

import pytest
import torch

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.trainer import Budget, Trained, TrainingError, trained
from paredown.spaces.candidates.blueprint import Blueprint, Storage
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref

BUDGET = Budget(steps=1, rows=4)


@pytest.fixture
def model():
    """Two tensors, one of them codes, and a graph that rounds its input."""
    node = Node(name="q", op=QDQ, args=(Ref("x"), 0.5, 0, 0, 255), shape=(1, 2))
    graph = Graph(
        nodes=(node,),
        inputs=("x",),
        input_shapes=((1, 2),),
        input_dtypes=("float32",),
        outputs=("q",),
        output_keys=("",),
    )
    codes = torch.tensor([[1, -2], [3, 0]], dtype=torch.int8)
    storage = Storage(shape=(2, 2), kept=4, bits=4)
    stored = {
        "w": StoredTensor(storage=storage, values=codes, scale=torch.tensor([0.5, 0.25])),
        "b": StoredTensor.unchanged(torch.tensor([1.0, 2.0])),
    }
    blueprint = Blueprint(graph=graph, operators=(), storage={})
    return CompressedModel(blueprint=blueprint, stored=stored)


def with_node(model, **changes):
    graph = model.blueprint.graph
    nodes = (replace(graph.nodes[0], **changes),)
    return replace(model, blueprint=replace(model.blueprint, graph=replace(graph, nodes=nodes)))


@dataclass(frozen=True)
class Does:
    """A trainer that changes one tensor."""

    name: str
    tensor: str
    changes: dict

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None):
        changed = replace(model.stored[self.tensor], **self.changes)
        return Trained(model=replace(model, stored={**model.stored, self.tensor: changed}))


def test_other_codes_scales_and_floats_are_taken(model):
    for tensor, changes in (
        ("w", {"scale": torch.tensor([1.0, 2.0])}),
        ("w", {"values": torch.zeros(2, 2, dtype=torch.int8)}),
        ("b", {"values": torch.tensor([3.0, 4.0])}),
    ):
        found = trained(Does("fine 1", tensor, changes), model, None, BUDGET, 0).model
        for name, value in changes.items():
            assert torch.equal(getattr(found.stored[tensor], name), value)


@pytest.mark.parametrize(
    ("tensor", "changes", "says"),
    [
        ("b", {"values": torch.zeros(3)}, "how each tensor is stored.* in b"),
        ("b", {"values": torch.zeros(2, dtype=torch.float64)}, "how each tensor is stored"),
        ("w", {"scale": None}, "how each tensor is stored.* in w"),
        ("w", {"scale": torch.tensor([1.0, -1.0])}, "bad 1 must return values.*above zero"),
        ("b", {"values": torch.tensor([float("nan"), 0.0])}, "bad 1 must return values"),
    ],
)
def test_another_form_or_what_is_no_number_is_refused(model, tensor, changes, says):
    with pytest.raises(TrainingError, match=says):
        trained(Does("bad 1", tensor, changes), model, None, BUDGET, 0)


def test_another_blueprint_or_tensor_is_refused(model):
    class Adds:
        name = "adds 1"

        def __call__(self, model, *_):
            return Trained(model=replace(model, stored={**model.stored, "c": model.stored["b"]}))

    class Redraws:
        name = "redraws 1"

        def __call__(self, model, *_):
            return Trained(model=with_node(model, args=(Ref("x"), 0.5, 7, 0, 255)))

    class Renames:
        name = "renames 1"

        def __call__(self, model, *_):
            return Trained(model=with_node(model, name="p"))

    for trainer in (Adds(), Redraws(), Renames()):
        with pytest.raises(TrainingError, match=f"{trainer.name} changed them"):
            trained(trainer, model, None, BUDGET, 0)


def test_scales_of_rounded_values_may_change(model):
    class Rescales:
        name = "rescales 1"

        def __call__(self, model, *_):
            return Trained(model=with_node(model, args=(Ref("x"), 0.25, 0, 0, 255)))

    found = trained(Rescales(), model, None, BUDGET, 0).model
    assert found.blueprint.graph.nodes[0].args[1] == 0.25
    assert model.blueprint.graph.nodes[0].args[1] == 0.5


def test_the_trainer_gets_all_that_it_may_go_on_from(model):
    class Passes:
        name = "passes 1"

        def __call__(self, *arguments):
            self.arguments = arguments
            return Trained(model=model, state={"n": torch.tensor(1)})

    trainer, state, checkpoint = Passes(), {"n": torch.tensor(0)}, object()
    result = trained(trainer, model, "rows", BUDGET, 5, state, checkpoint)
    assert trainer.arguments == (model, "rows", BUDGET, 5, state, checkpoint)
    assert result.state["n"] == 1
    assert result.curve == ()
