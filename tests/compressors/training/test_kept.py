"""Trained tensors are found by their content: the very ones, or none."""

from dataclasses import replace

import pytest
import torch

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.kept import TrainedModels
from paredown.compressors.training.trainer import TrainingError
from paredown.spaces.candidates.blueprint import Storage


def model_of(scale, bias):
    codes = torch.tensor([[1, -2], [3, 0]], dtype=torch.int8)
    storage = Storage(shape=(2, 2), kept=3, bits=4)
    stored = {
        "w": StoredTensor(
            storage=storage, values=codes, scale=torch.tensor([scale, 0.25]), mask=codes != 0
        ),
        "b": StoredTensor.unchanged(torch.tensor(bias)),
    }
    return CompressedModel(blueprint=("a blueprint",), stored=stored)


@pytest.fixture
def kept(tmp_path):
    return TrainedModels(tmp_path / "trained")


def test_a_trained_model_comes_back_bit_by_bit(kept):
    before, after = model_of(0.5, [1.0, 2.0]), model_of(1 / 3, [1.5, -0.0])
    found = kept.get(kept.put(after), before)
    assert found.blueprint is before.blueprint
    for name, tensor in after.stored.items():
        assert found.stored[name].storage == tensor.storage
        for part in ("values", "scale", "mask"):
            one, other = getattr(found.stored[name], part), getattr(tensor, part)
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)


def test_equal_tensors_are_one_file_and_others_another(kept):
    keys = {
        kept.put(model_of(s, b))
        for s, b in ((0.5, [1.0]), (0.5, [1.0]), (0.5, [2.0]), (0.4, [1.0]))
    }
    assert len(keys) == len(list(kept.folder.iterdir())) == 3


def test_tensors_that_share_memory_are_kept_apart(kept):
    shared = model_of(0.5, [1.0])
    shared = replace(shared, stored={**shared.stored, "c": shared.stored["b"]})
    found = kept.get(kept.put(shared), shared)
    assert torch.equal(found.stored["c"].values, torch.tensor([1.0]))


def test_a_file_that_is_gone_damaged_or_anothers_is_refused(kept):
    model = model_of(0.5, [1.0])
    key = kept.put(model)
    fewer = replace(model, stored={"w": model.stored["w"]})
    with pytest.raises(TrainingError, match="those of another"):
        kept.get(key, fewer)
    path = kept.folder / f"{key}.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(TrainingError, match="search again"):
        kept.get(key, model)
    path.unlink()
    with pytest.raises(TrainingError, match=f"{key}.safetensors"):
        kept.get(key, model)
