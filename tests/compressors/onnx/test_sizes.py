"""Sizes are those of the files, to the byte, whatever the tensors hold."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from paredown.compressors.models.assembling import assemble
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.compressors.storage.packing import read_packed, write_packed
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Blueprint, Storage
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.graph.graph import Graph

EMPTY = Graph(nodes=(), inputs=(), input_shapes=(), input_dtypes=(), outputs=(), output_keys=())


def random_tensor(draw: random.Random) -> StoredTensor:
    shape = tuple(draw.randint(1, 9) for _ in range(draw.randint(1, 4)))
    bits = draw.choice((2, 3, 4, 5, 6, 8, 32))
    mask = torch.rand(shape) < draw.random() if draw.random() < 0.5 else None
    kept = math.prod(shape) if mask is None else int(mask.sum())
    index = "none" if mask is None else draw.choice(("bitmap", "csr"))
    storage = Storage(shape=shape, bits=bits, kept=kept, index=index)
    values = torch.ones(shape, dtype=torch.float32 if bits == 32 else torch.int8)
    values = values if mask is None else values * mask
    scale = None if bits == 32 else torch.rand(shape[0])
    return StoredTensor(storage=storage, values=values, scale=scale, mask=mask)


@pytest.mark.parametrize("seed", range(40))
def test_packed_size_is_that_of_the_file(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    names = draw.sample(["a", "layer.0.weight", "B", "z_1", "größe", 'quo"te', "b.bias"], 5)
    stored = {name: random_tensor(draw) for name in names}
    write_packed(tmp_path / "t.safetensors", stored)
    blueprint = Blueprint(
        graph=EMPTY, operators=(), storage={n: t.storage for n, t in stored.items()}
    )
    assert packed_file_bytes(blueprint) == (tmp_path / "t.safetensors").stat().st_size


@pytest.mark.parametrize("name", ["lenet", "mobilenet_v2", "unet", "words"])
@pytest.mark.parametrize(
    ("sparsity", "pattern", "index"),
    [(0.5, "element", "bitmap"), (0.98, "element", "csr"), (0.6, "block", "block")],
)
@pytest.mark.parametrize("rank_fraction", [1.0, 0.3])
def test_sparse_layers_of_every_kind_take_the_bytes_that_are_predicted(
    name, sparsity, pattern, index, rank_fraction, mapped, database, tmp_path
) -> None:
    choice = LayerChoice(weight_bits=4, zeros=Zeros(sparsity, pattern), rank=Rank(rank_fraction))
    model_map = mapped(name)
    candidate = Candidate.of(layers={layer.name: choice for layer in model_map.layers})
    blueprint = draft(model_map, candidate)
    assert index in {storage.index for storage in blueprint.storage.values()}
    stored = assemble(candidate, database(name)).stored
    write_packed(tmp_path / "t.safetensors", stored)
    assert packed_file_bytes(blueprint) == (tmp_path / "t.safetensors").stat().st_size
    for key, tensor in read_packed(tmp_path / "t.safetensors").items():
        assert tensor.storage == blueprint.storage[key]
        assert torch.equal(tensor.dense(), stored[key].dense())


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize(
    ("bits", "kind"), [(32, "float32"), (8, "int8"), (4, "int4"), (2, "int2")]
)
def test_onnx_size_is_that_of_the_file(
    bits, kind, codes, resnet_model, with_weights, with_codes
) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = resnet_model
    if bits < 32:
        model = with_weights(model, bits, kind)
    if codes:
        model = with_codes(model, x)
    assert onnx_file_bytes(model.blueprint) == len(lower(model).SerializeToString())


def test_lean_files_of_resnet20_are_as_small_as_is_attainable(
    resnet20_model, with_weights, with_codes
) -> None:
    x = torch.randn(1, 3, 32, 32)
    model = resnet20_model
    # DESIGN 6a, in bytes
    assert onnx_file_bytes(model.blueprint) <= 1_079_600
    assert onnx_file_bytes(with_codes(with_weights(model, 8, "int8"), x).blueprint) <= 285_900
    assert onnx_file_bytes(with_weights(model, 4, "int4").blueprint) <= 144_500
    assert onnx_file_bytes(with_weights(model, 2, "int2").blueprint) <= 77_400


def test_counting_makes_no_tensor_and_grows_with_the_operators(
    resnet20_model, resnet_model, with_weights, with_codes
) -> None:
    class Forbidden(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            raise AssertionError(f"{function} was called")

    def calls(model) -> int:
        """Python calls made in counting one 8-bit model."""
        blueprint = with_codes(with_weights(model, 8, "int8"), torch.randn(1, 3, 32, 32)).blueprint
        made = []
        sys.setprofile(lambda frame, event, argument: event == "call" and made.append(1))
        try:
            with Forbidden():
                onnx_file_bytes(blueprint)
        finally:
            sys.setprofile(None)
        return len(made) / len(blueprint.graph.nodes)

    assert calls(resnet20_model) < 1.5 * calls(resnet_model)
