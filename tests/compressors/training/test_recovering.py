"""The trainer: never worse than the start, the same for a seed, and whole after any interruption."""

from dataclasses import replace

import pytest
import torch

from paredown.compressors.training.losses import LossWeights, Objective, answers
from paredown.compressors.training.quantizers.table import QUANTIZERS
from paredown.compressors.training.recovering import Recover
from paredown.compressors.training.trainable import View
from paredown.compressors.training.trainer import Budget, TrainingError, trained

BUDGET = Budget(steps=24, rows=10)
"""42 rows to train on: five batches an epoch, the last a small one."""


class Interrupted(Exception):
    """The worker is gone."""


class Memory:
    """A checkpoint in memory, saved after every step; it stops the training at one of them."""

    every_s = -1.0

    def __init__(self, stops_at=None):
        self.saved, self.stops_at, self.count = None, stops_at, 0

    def load(self):
        return self.saved

    def save(self, state):
        if self.count == self.stops_at:
            self.stops_at = None
            raise Interrupted
        self.saved, self.count = dict(state), self.count + 1


def held_out_loss(recipe, model, data):
    objective = Objective(recipe.losses, data, model.blueprint.graph)
    with torch.no_grad():
        losses = [
            float(objective(b, *answers(model, b.inputs, objective.watched))) * len(b.targets)
            for b in data.held_out(BUDGET.rows)
        ]
    return sum(losses) / data.held


def same(one, other):
    return one.blueprint == other.blueprint and all(
        torch.equal(getattr(x, part), getattr(other.stored[name], part))
        for name, x in one.stored.items()
        for part in ("values", "scale", "mask")
        if getattr(x, part) is not None
    )


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("lr", [5e-3, 5.0])
@pytest.mark.parametrize("norms", ["folded", "live"])
def test_the_model_that_comes_back_is_the_best_that_was_seen(small, quantizer, lr, norms):
    model, data = small
    recipe = Recover(view=View(quantizer=quantizer, norms=norms), lr=lr)
    result = trained(recipe, model, data, BUDGET, 0)
    assert result.curve[0].held_out_loss == held_out_loss(recipe, model, data)
    least = min(p.held_out_loss for p in result.curve)
    assert held_out_loss(recipe, result.model, data) == least, "what is exported, not beside it"
    assert least <= result.curve[0].held_out_loss
    steps = [p.step for p in result.curve]
    apart = steps[1]
    assert steps == list(range(0, 25, apart))
    looked, trained_on = (len(steps) - 1) * data.held, BUDGET.steps * BUDGET.rows
    assert looked <= trained_on / 4 < looked + 2 * data.held, "as often as is cheap"
    assert all(0 <= p.flips <= 1 for p in result.curve)


@pytest.mark.parametrize("norms", ["folded", "live"])
def test_training_helps(small, norms):
    model, data = small
    recipe = Recover(lr=0.02, view=View(norms=norms))
    result = trained(recipe, model, data, Budget(steps=80, rows=10), 0)
    first, last = result.curve[0].held_out_loss, result.curve[-1].held_out_loss
    assert last < 0.6 * first
    assert any(p.flips > 0 for p in result.curve)
    assert result.curve[0].flips == 0


def test_a_start_that_nothing_betters_comes_back_itself(small):
    model, data = small
    result = trained(Recover(lr=50.0, view=View(quantizer="sat")), model, data, BUDGET, 0)
    assert min(p.held_out_loss for p in result.curve[1:]) > result.curve[0].held_out_loss
    assert same(result.model, model)


def test_one_seed_gives_one_result_and_another_another(small):
    model, data = small
    recipe = Recover(view=View(norms="live"))
    results = [trained(recipe, model, data, BUDGET, seed) for seed in (3, 3, 4)]
    assert same(results[0].model, results[1].model)
    assert results[0].curve == results[1].curve
    assert results[0].curve != results[2].curve


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("norms", ["folded", "live"])
@pytest.mark.parametrize("stops_at", [0, 1, 11, 23])
def test_an_interrupted_training_ends_bit_equal(small, quantizer, norms, stops_at):
    model, data = small
    recipe = Recover(view=View(quantizer=quantizer, norms=norms), ema=0.9, damping=0.1)
    whole = trained(recipe, model, data, BUDGET, 1)
    checkpoint = Memory(stops_at)
    with pytest.raises(Interrupted):
        trained(recipe, model, data, BUDGET, 1, checkpoint=checkpoint)
    resumed = trained(recipe, model, data, BUDGET, 1, checkpoint=checkpoint)
    assert same(resumed.model, whole.model)
    assert resumed.curve == whole.curve
    assert resumed.state.keys() == whole.state.keys()
    assert all(torch.equal(x, whole.state[n]) for n, x in resumed.state.items())


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("activations", ["lsq", "fixed"])
@pytest.mark.parametrize("norms", ["folded", "live"])
def test_further_training_goes_on_from_the_very_model_and_its_state(
    small, quantizer, activations, norms
):
    model, data = small
    view = View(quantizer=quantizer, activations=activations, norms=norms)
    recipe = Recover(view=view)
    first = trained(recipe, model, data, BUDGET, 0)
    second = trained(recipe, first.model, data, BUDGET, 1, first.state)
    best = min(p.held_out_loss for p in first.curve)
    assert second.curve[0].held_out_loss == pytest.approx(best, rel=1e-6)
    assert min(p.held_out_loss for p in second.curve) <= second.curve[0].held_out_loss
    still = trained(recipe, first.model, data, Budget(steps=0), 1, first.state)
    assert same(still.model, first.model)


def test_what_is_no_number_ends_it_with_the_remedy(small):
    model, data = small
    nowhere = replace(data, inputs=data.inputs.clone())
    nowhere.inputs[20:] = float("nan")
    with pytest.raises(
        TrainingError, match="training loss must be a finite number, got nan after 0"
    ):
        trained(Recover(), model, nowhere, BUDGET, 0)
    unseen = replace(data, inputs=data.inputs.clone())
    unseen.inputs[:5] = float("nan")
    with pytest.raises(TrainingError, match="held-out loss must be a finite number"):
        trained(Recover(), model, unseen, BUDGET, 0)


def test_without_rows_it_is_refused(small):
    model, data = small
    empty = replace(data, inputs=data.inputs[: data.held])
    with pytest.raises(TrainingError, match="empty training split"):
        trained(Recover(), model, empty, BUDGET, 0)
    with pytest.raises(TrainingError, match="held-out rows, got none"):
        trained(Recover(), model, replace(data, held=0), BUDGET, 0)


def test_a_loss_without_parts_is_refused(small):
    model, data = small
    with pytest.raises(TrainingError, match="depend on what learns, got no part"):
        trained(Recover(losses=LossWeights(logits=0)), model, data, BUDGET, 0)


def test_gradients_are_clipped(small):
    model, data = small
    free = trained(Recover(), model, data, BUDGET, 0)
    loose = trained(Recover(clip_norm=1e9), model, data, BUDGET, 0)
    tight = trained(Recover(clip_norm=1e-9), model, data, BUDGET, 0)
    assert loose.curve == free.curve
    assert tight.curve != free.curve


def test_bfloat16_trains_as_far_and_is_scored_in_float32(small):
    model, data = small
    budget = Budget(steps=80, rows=10)
    whole, mixed = (
        trained(Recover(lr=0.02, precision=p), model, data, budget, 0)
        for p in ("float32", "bfloat16")
    )
    assert mixed.curve[0].held_out_loss == whole.curve[0].held_out_loss
    assert not same(mixed.model, whole.model), "it does compute in another precision"
    types = {name: x.dtype for name, x in whole.state.items()}
    assert {name: x.dtype for name, x in mixed.state.items()} == types, (
        "parameters keep their type"
    )
    best = min(p.held_out_loss for p in mixed.curve)
    assert best < 0.6 * mixed.curve[0].held_out_loss
    assert held_out_loss(Recover(), mixed.model, data) == best


def test_damping_settles_codes(small):
    model, data = small
    budget = Budget(steps=120, rows=10)
    free = trained(Recover(lr=0.05), model, data, budget, 0)
    damped = trained(Recover(lr=0.05, damping=0.5), model, data, budget, 0)
    # Nothing before the last third, five of eight looks; fewer flips behind.
    assert free.curve[:6] == damped.curve[:6]
    assert sum(p.flips for p in damped.curve[6:]) < sum(p.flips for p in free.curve[6:])


def test_the_name_says_all_that_matters():
    assert Recover(lr=0.005).name == (
        "recovery 2 (lsq, activations lsq, 1 logits (temperature 2), lr 0.005)"
    )
    assert Recover(clip_norm=1, ema=0.99, damping=0.1).name.endswith(
        ", gradients clipped at 1, averaged with decay 0.99, damped by 0.1)"
    )
    live = Recover(view=View(norms="live"), precision="bfloat16")
    assert live.name.endswith("lr 0.008, live norms, bfloat16)")
