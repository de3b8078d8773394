"""Trained tensors are found by their content: the very ones, or none."""

import re
import resource
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.activations import scales_of
from paredown.compressors.training.kept import CheckpointFile, KeepingError, TrainedModels
from paredown.compressors.training.trainer import TrainingError
from paredown.spaces.candidates.blueprint import Blueprint, Storage
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref


def blueprint_of(activation_scale):
    node = Node(name="q", op=QDQ, args=(Ref("x"), activation_scale, 0, 0, 255), shape=(1, 2))
    graph = Graph(
        nodes=(node,),
        inputs=("x",),
        input_shapes=((1, 2),),
        input_dtypes=("float32",),
        outputs=("q",),
        output_keys=("",),
    )
    return Blueprint(graph=graph, operators=(), storage={})


def model_of(scale, bias, activation_scale=0.5):
    codes = torch.tensor([[1, -2], [3, 0]], dtype=torch.int8)
    storage = Storage(shape=(2, 2), kept=3, bits=4)
    stored = {
        "w": StoredTensor(
            storage=storage, values=codes, scale=torch.tensor([scale, 0.25]), mask=codes != 0
        ),
        "b": StoredTensor.unchanged(torch.tensor(bias)),
    }
    return CompressedModel(blueprint=blueprint_of(activation_scale), stored=stored)


@pytest.fixture
def kept(tmp_path):
    return TrainedModels(tmp_path / "trained")


def test_a_trained_model_comes_back_bit_by_bit(kept):
    before, after = model_of(0.5, [1.0, 2.0]), model_of(1 / 3, [1.5, -0.0], 1 / 7)
    found = kept.get(kept.put(after), before)
    assert found.blueprint == after.blueprint
    assert scales_of(found.blueprint) == {"q": 1 / 7}
    for name, tensor in after.stored.items():
        assert found.stored[name].storage == tensor.storage
        for part in ("values", "scale", "mask"):
            one, other = getattr(found.stored[name], part), getattr(tensor, part)
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)


def test_equal_tensors_are_one_file_and_others_another(kept):
    keys = {
        kept.put(model_of(*parts))
        for parts in (
            (0.5, [1.0]),
            (0.5, [1.0]),
            (0.5, [2.0]),
            (0.4, [1.0]),
            (0.5, [1.0], 0.25),
        )
    }
    assert len(keys) == len(list(kept.folder.iterdir())) == 4


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


def test_a_model_of_other_rounded_values_is_refused(kept):
    model = model_of(0.5, [1.0])
    key = kept.put(model)
    graph = model.blueprint.graph
    renamed = replace(graph, nodes=(replace(graph.nodes[0], name="p"),), outputs=("p",))
    other = replace(model, blueprint=replace(model.blueprint, graph=renamed))
    with pytest.raises(TrainingError, match="those of another"):
        kept.get(key, other)


def test_a_state_comes_back_or_is_none(kept):
    key = kept.put(model_of(0.5, [1.0]))
    assert kept.state(key, "t 1") is None
    state = {"latent": torch.tensor([0.1, 0.2]), "steps": torch.tensor(3)}
    kept.put_state(key, state, "t 1")
    found = kept.state(key, "t 1")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[n], x) for n, x in state.items())
    path = kept.folder / f"{key}-state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.state(key, "t 1") is None
    kept.put_state("another", state, "t 1")
    (kept.folder / "another-state.safetensors").replace(path)
    assert kept.state(key, "t 1") is None, "the state of another model"


def test_a_checkpoint_is_replaced_whole_and_removed(kept):
    checkpoint = kept.checkpoint("rung 1 of abc")
    assert checkpoint.load() is None
    checkpoint.remove()
    for number in (1, 2):
        checkpoint.save({"step": torch.tensor(number)})
    assert checkpoint.load()["step"] == 2
    assert [path.name for path in kept.folder.iterdir()] == ["rung 1 of abc-under-way.safetensors"]
    other = CheckpointFile(path=checkpoint.path, name="another")
    assert other.load() is None
    checkpoint.path.write_bytes(b"no tensors")
    assert checkpoint.load() is None
    checkpoint.save({"step": torch.tensor(3)})
    assert checkpoint.load()["step"] == 3
    checkpoint.remove()
    assert list(kept.folder.iterdir()) == []


@contextmanager
def small_files():
    """No file that is written inside may be larger than 64 bytes, pytest's own output among them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_finds_no_room_is_named_with_its_folder_and_bytes_and_leaves_nothing(kept):
    state = {"latent": torch.zeros(256)}
    for write in (
        lambda: kept.put(model_of(0.5, [1.0] * 256)),
        lambda: kept.put_state("abc", state, "t 1"),
        lambda: kept.checkpoint("abc").save(state),
    ):
        with small_files(), pytest.raises(KeepingError) as found:
            write()
        assert re.search(
            r"to .*trained, got .*too large.* 1,0\d\d bytes.*--resume", str(found.value)
        )
    assert list(kept.folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "trained").write_text("in the way")
    with pytest.raises(KeepingError, match=r"trained, got .* make the folder writable"):
        TrainedModels(tmp_path / "trained").put(model_of(0.5, [1.0]))


def test_states_and_checkpoints_are_removed_and_models_stay(kept):
    keys = [kept.put(model_of(scale, [1.0])) for scale in (0.5, 0.25)]
    for key in keys:
        kept.put_state(key, {"latent": torch.zeros(2)}, "t 1")
    checkpoint = kept.checkpoint("abc")
    checkpoint.save({"step": torch.tensor(1)})
    kept.remove_states([keys[0], "one that has none"])
    kept.remove_checkpoints()
    assert checkpoint.load() is None
    assert [kept.state(key, "t 1") is None for key in keys] == [True, False]
    assert len(list(kept.folder.iterdir())) == 3
