"""Tensors keep their types: in memory, in both files and through ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.bundle.loading import load, load_model
from paredown.compressors.bundle.writing import write_bundle
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.packing import PackingError, read_packed, write_packed
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import ITEM_BYTES, Storage
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.graph.graph_json import from_json, to_json

TYPES = tuple(ITEM_BYTES)
CARD = {"predicted": {}}
KEEP = torch.ones(5, 5).tril().bool()
NO_ROW = KEEP & (torch.arange(5) != 2)[:, None]


class Of(nn.Module):
    """A module from a function of its layers, buffers and input."""

    def __init__(self, function: Any, **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def attention(m: Any, x: Tensor) -> Tensor:
    y = m.layer(x)
    return F.scaled_dot_product_attention(y, y, y, attn_mask=m.mask)


def tokens() -> Tensor:
    return torch.randn(2, 5, 8)


def scaled(m: Any, x: Tensor) -> Tensor:
    return m.layer(x) * m.b


def converted(m: Any, x: Tensor) -> Tensor:
    return m.layer(x) + (1 - m.b.float()) * -1e4


def placed(m: Any, x: Tensor) -> Tensor:
    return m.layer(x + m.places(m.ids))


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "mask of truth values": (attention, {"mask": KEEP}),
    "mask of keys": (attention, {"mask": torch.tensor([True, True, False, True, False])}),
    "a row that reads nothing": (attention, {"mask": NO_ROW}),
    "-inf added": (attention, {"mask": torch.zeros(5, 5).masked_fill(~KEEP, -torch.inf)}),
    "-inf in a whole row": (
        attention,
        {"mask": torch.zeros(5, 5).masked_fill(~NO_ROW, -torch.inf)},
    ),
    "the lowest number in a whole row": (
        attention,
        {"mask": torch.zeros(5, 5).masked_fill(~NO_ROW, torch.finfo(torch.float32).min)},
    ),
    "int64 indices": (placed, {"ids": torch.arange(5), "places": nn.Embedding(5, 8)}),
    "int32 indices": (placed, {"ids": torch.arange(5).int(), "places": nn.Embedding(5, 8)}),
    "indices cut and moved": (
        lambda m, x: m.layer(x + m.places(m.ids[:, 2:7] + 1)),
        {"ids": torch.arange(9)[None], "places": nn.Embedding(9, 8)},
    ),
    "whole numbers divided": (
        lambda m, x: m.layer(x) * (m.a / m.b),
        {"a": torch.arange(8), "b": torch.tensor(3)},
    ),
    "float64 without dimensions": (scaled, {"b": torch.tensor(1 / 3, dtype=torch.float64)}),
    "float64 makes float64": (scaled, {"b": torch.rand(8, dtype=torch.float64)}),
    "float64 made float32": (
        lambda m, x: m.layer(x * m.b.float()),
        {"b": torch.rand(8, dtype=torch.float64)},
    ),
    "float16 table": (
        lambda m, x: m.layer(x + F.embedding(m.ids, m.b)),
        {"ids": torch.arange(5), "b": torch.randn(5, 8).half()},
    ),
    "truth values combined": (
        lambda m, x: m.layer(x) * (m.a * m.b + m.a),
        {"a": torch.arange(8) % 2 > 0, "b": torch.arange(8) % 3 > 0},
    ),
    "bytes that wrap": (
        lambda m, x: m.layer(x) * (m.b + m.b).float(),
        {"b": torch.arange(120, 240, 15, dtype=torch.uint8)},
    ),
    "joined with truth values": (
        lambda m, x: torch.cat([m.layer(x), m.b.expand(x.shape[0], 5, 8)], 1),
        {"b": torch.arange(40).reshape(5, 8) % 3 > 0},
    ),
    "sums of truth values": (lambda m, x: m.layer(x) / m.b.sum(0), {"b": torch.ones(5, 8).bool()}),
    "outputs of four types": (
        lambda m, x: (m.layer(x).half(), m.layer(x).argmax(-1), m.layer(x).double(), m.layer(x)),
        {},
    ),
    **{f"{t} as a factor": (scaled, {"b": torch.arange(8).to(getattr(torch, t))}) for t in TYPES},
    "a truth value made float": (converted, {"b": torch.arange(8) % 2 > 0}),
}


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, identity: Any
) -> tuple[nn.Module, CompressedModel, Tensor]:
    function, parts = CASES[request.param]
    module = Of(function, layer=nn.Linear(8, 8), **parts).eval()
    x = tokens()
    return module, identity(module, x), x


def test_graph_and_runtime_give_what_the_module_gives(case: Any, run_onnx: Any) -> None:
    module, model, x = case
    with torch.no_grad():
        wanted = module(x)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    through, ours = run_onnx(model, x)
    for expected, graph, runtime in zip(wanted, ours, through, strict=True):
        assert graph.dtype == runtime.dtype == expected.dtype
        torch.testing.assert_close(graph, expected, rtol=0, atol=0)
        rounding = 1e-3 if expected.dtype == torch.half else 1e-5
        torch.testing.assert_close(runtime, expected, rtol=rounding, atol=1e-5)


def test_both_files_have_the_size_that_was_foretold(case: Any, tmp_path: Path) -> None:
    _, model, _ = case
    write_packed(tmp_path / "m", model.stored)
    assert (tmp_path / "m").stat().st_size == packed_file_bytes(model.blueprint)
    assert len(lower(model).SerializeToString()) == onnx_file_bytes(model.blueprint)


def test_a_bundle_gives_every_tensor_back_in_its_type(case: Any, tmp_path: Path) -> None:
    module, model, x = case
    folder = write_bundle(tmp_path / "bundle", model, Candidate(architecture=""), CARD)
    for name, tensor in load_model(folder).tensors.items():
        torch.testing.assert_close(tensor, model.tensors[name], rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(load(folder)(x), module(x), rtol=0, atol=0)


def test_a_mask_lies_in_the_onnx_file_as_truth_values(identity: Any) -> None:
    model = identity(Of(attention, layer=nn.Linear(8, 8), mask=KEEP).eval(), tokens())
    (mask,) = (i for i in lower(model).graph.initializer if tuple(i.dims) == (5, 5))
    assert mask.data_type == onnx.TensorProto.BOOL
    assert mask.raw_data == bytes(KEEP.flatten().tolist())


@pytest.mark.parametrize("dtype", TYPES)
def test_a_tensor_of_any_type_and_no_dimension_survives_the_packed_file(
    dtype: str, tmp_path: Path
) -> None:
    tensor = torch.tensor(1, dtype=getattr(torch, dtype))
    write_packed(tmp_path / "m", {"x": StoredTensor.unchanged(tensor)})
    read = read_packed(tmp_path / "m")["x"]
    assert read.values.dtype == tensor.dtype
    assert torch.equal(read.values, tensor)
    assert read.storage.packed_bytes == tensor.element_size()


def test_values_of_another_type_than_the_storage_says_are_not_written(tmp_path: Path) -> None:
    wrong = StoredTensor(storage=Storage(shape=(2,), kept=2, dtype="int64"), values=torch.ones(2))
    with pytest.raises(PackingError, match="dtype"):
        write_packed(tmp_path / "m", {"x": wrong})


def test_types_survive_json_and_only_unusual_ones_are_in_it(identity: Any) -> None:
    module = Of(lambda m, x: (m.layer(x), m.layer(x).argmax(-1)), layer=nn.Linear(8, 8)).eval()
    graph = identity(module, tokens()).blueprint.graph
    text = json.dumps(to_json(graph))
    assert from_json(json.loads(text)) == graph
    assert [n.get("dtype") for n in json.loads(text)["nodes"]].count("int64") == 1
    assert '"float32"' not in text.partition('"input_shapes"')[0]
