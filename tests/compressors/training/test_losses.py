"""Losses by hand, and answers of the uncompressed network that are computed once."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from paredown.compressors.training.losses import (
    LossWeights,
    Objective,
    answers,
    distance,
    kernel_alignment,
    relative_error,
)
from paredown.compressors.training.trainer import Batch


def test_logits_are_compared_by_their_divergence_at_a_temperature():
    outputs, wanted = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3.0), 0.0]])
    # At temperature 2 what is wanted is 3/4 and 1/4, what is found 1/2 each.
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = distance((outputs,), (wanted,), 1, temperature=2.0)
    assert float(found) == pytest.approx(4 * by_hand, rel=1e-5)
    assert float(distance((wanted,), (wanted,), 1, 2.0)) == pytest.approx(0.0, abs=1e-7)


def test_the_mean_is_over_all_but_the_classes():
    draw = torch.Generator().manual_seed(0)
    outputs, wanted = (torch.randn(2, 5, 3, generator=draw) for _ in range(2))
    flat = [x.movedim(1, 2).reshape(6, 5) for x in (outputs, wanted)]
    one = distance((outputs,), (wanted,), 1, 1.0)
    assert torch.allclose(one, distance((flat[0],), (flat[1],), 1, 1.0))


def test_other_outputs_are_compared_by_error_as_a_share_of_variance():
    wanted = torch.tensor([1.0, 3.0])
    assert float(relative_error(wanted + 0.5, wanted)) == pytest.approx(0.25)
    found = distance((wanted + 0.5, wanted), (wanted, wanted), None, 1.0)
    assert float(found) == pytest.approx(0.125), "the mean over outputs"


def test_kernels_are_aligned_whatever_the_rotation_size_and_width():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(9, 4, generator=draw)
    turned = 3 * x @ torch.linalg.qr(torch.randn(4, 4, generator=draw))[0] + 7
    assert float(kernel_alignment(x, turned)) == pytest.approx(1.0, abs=1e-5)
    wider = torch.cat([x, torch.zeros(9, 3)], dim=1)
    assert float(kernel_alignment(wider, x)) == pytest.approx(1.0, abs=1e-5)
    assert float(kernel_alignment(torch.randn(9, 4, generator=draw), x)) < 0.7
    # By hand: centred values -1, 1 and (-1, 0), (1, 0) are alike; with rows turned round they are too.
    assert (
        float(kernel_alignment(torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [3.0]]))) == 1.0
    )


def test_the_text_names_the_parts_that_count():
    assert LossWeights(labels=0.5, kernels=2).text == (
        "1 logits (temperature 2) + 0.5 labels + 2 kernels"
    )


class Counted:
    """A model that counts how often it runs."""

    def __init__(self, model):
        self.model, self.calls = model, 0

    @property
    def blueprint(self):
        return self.model.blueprint

    def __call__(self, *arguments, **named):
        self.calls += 1
        return self.model(*arguments, **named)


@pytest.mark.parametrize("numbered", [True, False])
def test_numbered_rows_are_answered_once(small, numbered):
    model, data = small
    reference = Counted(data.reference)
    data = replace(data, reference=reference, numbered=numbered)
    objective = Objective(LossWeights(), data, model.blueprint.graph)
    first = list(data.batches(7, seed=0))
    for batch in first:
        objective.remember(batch)
    calls = reference.calls
    assert calls == (len(first) if numbered else 0)
    for batch in data.batches(10, seed=1):
        outputs = model(batch.inputs)
        wanted = distance(outputs, data.reference.model(batch.inputs), 1, 2.0)
        assert torch.allclose(objective(batch, outputs, {}), wanted, atol=1e-6)
    assert reference.calls == calls + (0 if numbered else len(list(data.batches(10, seed=1))))


def test_parts_are_weighed_and_added(small):
    model, data = small
    batch = next(data.batches(20, seed=0))
    outputs = model(batch.inputs)

    def loss(**weights):
        objective = Objective(
            LossWeights(**{"logits": 0.0, **weights}), data, model.blueprint.graph
        )
        seen = {}

        def look(node, _, output):
            if node.name in objective.watched:
                seen[node.name] = output
            return output

        model(batch.inputs, after=look)
        return float(objective(batch, outputs, seen))

    parts = {"logits": 1.0, "labels": 1.0, "blocks": 1.0, "kernels": 1.0}
    each = {name: loss(**{name: 1.0}) for name in parts}
    assert all(value > 0 for value in each.values())
    assert each["labels"] == pytest.approx(float(data.loss(outputs, batch.targets)))
    assert loss(logits=2.0, labels=0.5, blocks=3.0, kernels=4.0) == pytest.approx(
        2 * each["logits"] + 0.5 * each["labels"] + 3 * each["blocks"] + 4 * each["kernels"],
        rel=1e-5,
    )


def test_losses_are_of_float32_whatever_the_networks_compute_in(small):
    model, data = small
    seen = []

    class Asks:
        reference, class_dim = data.reference, data.class_dim

        def loss(self, outputs, targets):
            seen.append((outputs[0].dtype, (outputs[0].T @ outputs[0]).dtype))
            return data.loss(outputs, targets)

    objective = Objective(LossWeights(labels=1, kernels=1), Asks(), model.blueprint.graph)
    batch = next(iter(data.batches(10, 0)))
    with torch.autocast("cpu", torch.bfloat16):
        outputs, values = answers(model, batch.inputs, objective.watched)
        assert outputs[0].dtype == torch.bfloat16
        total = objective(batch, outputs, values)
    assert seen == [(torch.float32, torch.float32)]
    assert total.dtype == torch.float32


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = x + self.one(x)
        return y + self.two(y)


def test_blocks_end_at_sums_or_at_layers_without_any(identity, small):
    model = identity(Residual(), torch.zeros(1, 4))
    _, data = small
    data = replace(data, reference=model)
    watched = Objective(LossWeights(blocks=1), data, model.blueprint.graph).watched
    ops = [model.blueprint.graph.by_name[name].op for name in watched]
    assert len(ops) == 2
    assert all(op.startswith("aten.add") for op in ops)
    plain, data = small
    watched = Objective(LossWeights(blocks=1), data, plain.blueprint.graph).watched
    kinds = [plain.blueprint.graph.by_name[name].facts.kind for name in watched]
    assert len(kinds) == 2
    assert set(kinds) == {"linear"}
    assert Objective(LossWeights(), data, plain.blueprint.graph).watched == frozenset()


def test_values_of_another_width_are_aligned_and_not_compared(identity, small):
    model = identity(Residual(), torch.zeros(1, 4))
    _, data = small
    data = replace(data, reference=model)
    inputs = torch.randn(6, 4)
    batch = Batch(inputs=(inputs,), targets=torch.zeros(6, dtype=torch.long))
    weights = LossWeights(logits=0, blocks=1, kernels=1)
    objective = Objective(weights, data, model.blueprint.graph)
    seen = {}
    model((inputs,), after=lambda n, _, o: seen.setdefault(n.name, o))
    narrow = {n: torch.cat([seen[n], torch.zeros(6, 2)], dim=1) for n in objective.watched}
    outputs = model((inputs,))
    assert float(objective(batch, outputs, narrow)) == pytest.approx(0.0, abs=1e-5)
    off = {n: x + torch.randn(x.shape) for n, x in narrow.items()}
    assert float(objective(batch, outputs, off)) > 0.01
