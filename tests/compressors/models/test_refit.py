"""Layers refitted to what they really see: nearer than before, inside their sets, harmless at rest."""

import pytest
import torch

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.repair import reestimate
from paredown.compressors.models import refit as refitting
from paredown.compressors.models.assembling import assemble
from paredown.compressors.models.refit import DenseOutputs, refit
from paredown.compressors.pruning import joint
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.graph.graph import run


@pytest.fixture
def plenty(monkeypatch):
    """Twelve calibration images are few; let every layer be fitted all the same."""
    monkeypatch.setattr(refitting, "_FEWEST_PER_COLUMN", 0.0)


def error(model, mapped, database, inputs):
    """Mean squared change of the first output against the dense model."""
    with torch.no_grad():
        dense = run(mapped.graph, database.tensors, inputs)[0]
        return float((model(inputs)[0] - dense).square().mean())


def test_a_model_that_lost_nothing_keeps_its_outputs(zoo_name, mapped, database, calibration):
    base, inputs = database(zoo_name), calibration(zoo_name)
    model = assemble(Candidate(), base)
    settled = refit(model, Candidate(), base, DenseOutputs(base, inputs))
    with torch.no_grad():
        for before, after in zip(model(inputs), settled(inputs), strict=True):
            torch.testing.assert_close(after, before, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["resnet_a", "vgg", "conv1d", "unet"])
def test_after_narrowing_outputs_come_nearer_than_with_moments_alone(
    name, mapped, database, calibration, plenty
):
    model_map, base, inputs = mapped(name), database(name), calibration(name)
    widths = {g.name: max(1, g.channels // 2) for g in model_map.groups[:2]}
    candidate = Candidate.of(widths=widths)
    model = assemble(candidate, base)
    targets = {
        op.node: base.output_moments(model_map.layer_by_name[op.layer], widths)
        for op in model.blueprint.operators
        if op.bias is not None
    }
    moments = reestimate(model, targets, inputs)
    settled = refit(model, candidate, base, DenseOutputs(base, inputs))
    assert error(settled, model_map, base, inputs) < error(moments, model_map, base, inputs)


def test_after_a_skipped_block_the_layers_behind_make_up_for_it(
    mapped, database, calibration, plenty
):
    model_map, base = mapped("resnet_a"), database("resnet_a")
    candidate = Candidate.of(dropped=(model_map.blocks[0].name,))
    model = assemble(candidate, base)
    inputs = calibration("resnet_a")
    settled = refit(model, candidate, base, DenseOutputs(base, inputs))
    assert error(settled, model_map, base, inputs) < 0.5 * error(model, model_map, base, inputs)


@pytest.mark.parametrize("decomposition", ["channel", "spatial", "tucker"])
def test_the_last_factor_of_a_chain_is_solved_for_what_the_others_give(
    decomposition, mapped, database, calibration, plenty
):
    model_map, base, inputs = mapped("vgg"), database("vgg"), calibration("vgg")
    choice = LayerChoice(weight_bits=4, rank=Rank(0.25, decomposition))
    candidate = Candidate.of(layers={layer.name: choice for layer in model_map.layers})
    model = assemble(candidate, base)
    last = {operator.layer: operator for operator in model.blueprint.operators}
    split = [operator for operator in last.values() if operator.part > 0]
    assert split
    targets = {
        op.node: base.output_moments(model_map.layer_by_name[op.layer], {})
        for op in last.values()
        if op.bias is not None
    }
    moments = reestimate(model, targets, inputs)
    settled = refit(model, candidate, base, DenseOutputs(base, inputs))
    assert error(settled, model_map, base, inputs) < error(moments, model_map, base, inputs)
    for operator in settled.blueprint.operators:
        is_same = torch.equal(
            model.stored[operator.weight].values, settled.stored[operator.weight].values
        )
        # The first factors keep what they were solved to.
        assert is_same or last[operator.layer].node == operator.node


@pytest.mark.parametrize("method", ["rtn", "gptq", "descent", "joint"])
def test_codes_and_zeros_stay_within_the_choice(
    method, mapped, database, calibration, plenty, monkeypatch
):
    # The set that a choice allows is kept in every round of the joint method.
    monkeypatch.setattr(joint, "_SWEEPS", 2)
    model_map, known = mapped("lenet"), database("lenet")
    base = Database(model_map, known.tensors, known.statistics, known.ranges)
    choice = LayerChoice(weight_bits=3, zeros=Zeros(0.5, "element"), method=method)
    candidate = Candidate.of(
        layers={layer.name: choice for layer in model_map.layers},
        segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
    )
    model = assemble(candidate, base)
    settled = refit(model, candidate, base, DenseOutputs(base, calibration("lenet")))
    changed = 0
    for operator in settled.blueprint.operators:
        before, after = model.stored[operator.weight], settled.stored[operator.weight]
        assert after.storage == before.storage
        assert after.values.dtype == before.values.dtype
        assert int(after.values.abs().max()) <= 3
        assert int(after.mask.sum()) == int(before.mask.sum()) == after.storage.kept
        assert not bool((after.values != 0)[~after.mask].any())
        changed += not torch.equal(before.values, after.values)
    assert changed


def test_layers_with_too_few_positions_keep_their_codes(mapped, database, calibration):
    model_map, base = mapped("mlp"), database("mlp")
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=2) for layer in model_map.layers}
    )
    dense = DenseOutputs(base, [x[:1] for x in calibration("mlp")])
    few = [layer for layer in model_map.layers if dense.of(layer) is None]
    model = assemble(candidate, base)
    settled = refit(model, candidate, base, dense)
    assert few
    for operator in model.blueprint.operators:
        if operator.layer in {layer.name for layer in few}:
            before, after = model.stored[operator.weight], settled.stored[operator.weight]
            assert torch.equal(before.values, after.values)


@pytest.mark.parametrize("method", ["gptq", "descent"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_scales_of_groups_are_fitted_again(
    method, sparsity, mapped, database, calibration, plenty
):
    model_map, known = mapped("lenet"), database("lenet")
    base = Database(model_map, known.tensors, known.statistics, known.ranges)
    choice = LayerChoice(
        weight_bits=3,
        zeros=Zeros(sparsity, "element" if sparsity else "dense"),
        method=method,
        group_size=32,
    )
    # Two layers before it have lost what the linear ones must make up for.
    layers = {layer.name: LayerChoice(weight_bits=2) for layer in model_map.layers}
    names = [layer.name for layer in model_map.layers if layer.kind == "linear"]
    candidate = Candidate.of(layers=layers | dict.fromkeys(names, choice))
    model = assemble(candidate, base)
    inputs = calibration("lenet")
    settled = refit(model, candidate, base, DenseOutputs(base, inputs))
    for name in names:
        weight = model_map.layer_by_name[name].weight
        before, after = model.stored[weight], settled.stored[weight]
        assert after.storage == before.storage
        assert after.scale.shape == before.scale.shape == before.storage.scale_shape
        assert after.scale.ndim == 2
        assert int(after.values.abs().max()) <= 3
        assert not torch.equal(after.scale, before.scale)
        assert after.mask is None or not bool((after.values != 0)[~after.mask].any())
    assert error(settled, model_map, base, inputs) < error(model, model_map, base, inputs)
