"""What is assembled is what will be written: every tensor in the format its storage counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from paredown.compressors.models.assembling import assemble, needs_refit, settle
from paredown.compressors.models.codes import fit_biases
from paredown.compressors.models.refit import DenseOutputs
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros


@pytest.mark.parametrize("name", ["lenet", "resnet_a", "densenet", "unet", "words"])
@pytest.mark.parametrize("seed", [10, 11])
def test_tensors_hold_exactly_what_their_storage_counts(
    name, seed, mapped, database, random_candidate
) -> None:
    model = assemble(random_candidate(mapped(name), seed, None), database(name))
    assert set(model.stored) == set(model.blueprint.storage)
    for tensor_name, tensor in model.stored.items():
        storage = model.blueprint.storage[tensor_name]
        assert tensor.storage == storage
        assert tuple(tensor.values.shape) == storage.shape
        kept = storage.count if tensor.mask is None else int(tensor.mask.sum())
        assert kept == storage.kept
        if storage.bits < 32:
            top = max(1, 2 ** (storage.bits - 1) - 1)
            assert int(tensor.values.abs().max()) <= top
            assert tensor.scale.shape == storage.scale_shape


def test_the_file_changes_nothing_that_was_scored(mapped, database, calibration) -> None:
    model_map = mapped("lenet")
    candidate = Candidate.of(
        layers={n.name: LayerChoice(weight_bits=2) for n in model_map.layers},
        segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
    )
    model = assemble(candidate, database("lenet"))
    dense = DenseOutputs(database("lenet"), calibration("lenet"))
    settled = settle(model, candidate, database("lenet"), dense)
    for scored in (model, settled):
        for name, tensor in fit_biases(scored).tensors.items():
            assert torch.equal(tensor, scored.tensors[name])


def test_only_harsh_changes_ask_for_a_refit() -> None:
    def needs(**choice):
        return needs_refit(Candidate.of(layers={"a": LayerChoice(**choice)}))

    assert not needs(weight_bits=4)
    assert needs(weight_bits=2)
    assert needs(weight_bits=1)
    assert needs(rank=Rank(0.5))
    assert needs(zeros=Zeros(0.5, "element"))
    assert needs_refit(Candidate.of(widths={"a": 3}))
    assert needs_refit(Candidate.of(dropped=("a",)))


def test_a_channel_without_weights_keeps_its_bias_beside_8_bit_inputs(mapped, database) -> None:
    model_map = mapped("resnet_a")
    candidate = Candidate.of(
        layers={n.name: LayerChoice(weight_bits=8) for n in model_map.layers},
        segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
    )
    model = assemble(candidate, database("resnet_a"))
    operator = next(op for op in model.blueprint.operators if op.layer == "layer2.0.conv1")
    weight, bias = model.stored[operator.weight], model.stored[operator.bias]
    codes, scale, shift = weight.values.clone(), weight.scale.clone(), bias.values.clone()
    codes[0], scale[0], shift[0] = 0, 1.0, 0.0123
    empty = replace(
        model,
        stored={
            **model.stored,
            operator.weight: replace(weight, values=codes, scale=scale),
            operator.bias: replace(bias, values=shift),
        },
    )
    fitted = fit_biases(empty).stored[operator.weight]
    source = model.blueprint.graph.by_name[operator.node].args[0].name
    unit = float(model.blueprint.graph.by_name[source].args[1]) * float(fitted.scale[0])
    assert round(0.0123 / unit) * unit == pytest.approx(0.0123, rel=1e-6)
    assert 0.0123 / unit < 2**31
    assert torch.equal(fitted.values, codes)
    assert torch.equal(fitted.scale[1:], scale[1:])
