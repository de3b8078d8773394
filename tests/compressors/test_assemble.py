"""What is assembled is what will be written: every tensor in the format its storage counts."""

from __future__ import annotations

import pytest
import torch

from paredown.compressors.assemble import assemble, needs_refit, settle
from paredown.compressors.export.codes import fit_biases
from paredown.compressors.refit import DenseOutputs
from paredown.spaces.candidate import Candidate, LayerChoice, SegmentChoice


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
            top = 1 if storage.bits == 2 else 2 ** (storage.bits - 1) - 1
            assert int(tensor.values.abs().max()) <= top
            assert len(tensor.scale) == storage.scale_count


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
    assert needs(rank_fraction=0.5)
    assert needs(sparsity=0.5, pattern="element")
    assert needs_refit(Candidate.of(widths={"a": 3}))
    assert needs_refit(Candidate.of(dropped=("a",)))
