"""What a bundle says of itself is held against its size and its types before it is believed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from paredown.compressors.storage.checking import (
    CheckError,
    check_model,
    check_onnx,
    check_values,
    read_operators,
    read_storage,
)
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Operator, Storage
from paredown.spaces.graph.graph import GraphError, Ref

FOUR_BIT = {"shape": [8, 4], "bits": 4, "kept": 32, "onnx_type": "int4"}


def described(**brief):
    return json.dumps({"w": FOUR_BIT | brief})


def test_a_description_is_read_as_it_was_written():
    found = read_storage(described(), 100)
    assert found == {"w": Storage(shape=(8, 4), bits=4, kept=32, onnx_type="int4")}


@pytest.mark.parametrize(
    ("brief", "says"),
    [
        ({"bits": 7}, "contradicts itself"),
        ({"kept": 31}, "contradicts itself"),
        ({"kept": 33, "index": "bitmap"}, "contradicts itself"),
        ({"axis": 2}, "contradicts itself"),
        ({"shape": [-8, 4]}, "contradicts itself"),
        ({"shape": [], "kept": 1}, "contradicts itself"),
        ({"group_size": -1}, "contradicts itself"),
        ({"bits": "4"}, "bits"),
        ({"index": "zip"}, "index"),
        ({"shape": [2**16, 2**16], "kept": 2**32}, "must fit their file"),
    ],
)
def test_a_description_that_cannot_be_is_refused(brief, says):
    with pytest.raises(CheckError, match=says):
        read_storage(described(**brief), 100)


def test_what_a_large_file_may_unpack_to_grows_with_it():
    # Nothing is kept of the tensor, so its description alone would ask for the memory.
    brief = {"shape": [2**15, 2**15], "kept": 0, "index": "bitmap"}
    with pytest.raises(CheckError, match="must fit their file"):
        read_storage(described(**brief), 2**32 // 64 - 1)
    assert read_storage(described(**brief), 2**32 // 64)["w"].count == 2**30


def test_a_description_that_is_no_mapping_is_refused():
    with pytest.raises(CheckError, match="must be a mapping"):
        read_storage("[1]", 100)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_are_positive_numbers(value):
    storage = Storage(shape=(2, 2), bits=8, kept=4, onnx_type="int8")
    codes = torch.ones(2, 2, dtype=torch.int8)
    good = StoredTensor(storage=storage, values=codes, scale=torch.ones(2))
    check_values("w", good)
    with pytest.raises(CheckError, match="in tensor 'w'"):
        check_values("w", replace(good, scale=torch.tensor([1.0, value])))


def test_a_mask_of_infinities_is_a_tensor_and_nan_is_none():
    check_values("mask", StoredTensor.unchanged(torch.tensor([0.0, -torch.inf])))
    check_values("ids", StoredTensor.unchanged(torch.tensor([1, 2])))
    with pytest.raises(CheckError, match="NaN in 'w'"):
        check_values("w", StoredTensor.unchanged(torch.tensor([torch.nan])))


def test_operators_are_read_strictly():
    brief = {
        "node": "conv", "layer": "conv1", "part": 0, "weight": "conv1.weight", "bias": None,
        "activation_bits": 8,
    }  # fmt: skip
    assert read_operators([brief]) == (Operator(**brief),)
    for wrong in ({"part": "0"}, {"part": None}, {"weight": 3}):
        with pytest.raises(CheckError, match=f"operators: 0.{next(iter(wrong))}"):
            read_operators([brief | wrong])
    with pytest.raises(CheckError, match="operators"):
        read_operators({"a": 1})


@pytest.fixture
def model(identity):
    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    return identity(net, torch.randn(2, 6))


def with_graph(model, **fields):
    graph = replace(model.blueprint.graph, **fields)
    return replace(model, blueprint=replace(model.blueprint, graph=graph))


def test_a_model_that_runs_is_checked_without_running(model):
    check_model(model)
    wide = with_graph(model, input_shapes=((2**16, 6),))
    with pytest.raises(GraphError, match="must give"):
        check_model(wide)


def changed(model, index, **fields):
    nodes = list(model.blueprint.graph.nodes)
    nodes[index] = replace(nodes[index], **fields)
    return with_graph(model, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: changed(m, 1, shape=(2, 5)), r"must give \(2, 5\)"),
        (lambda m: changed(m, 0, args=(Ref("nobody"),)), "reads 'nobody', which is not there yet"),
        (lambda m: changed(m, 1, name=m.blueprint.graph.nodes[0].name), "there twice"),
        (lambda m: changed(m, 1, args=()), "does not fit its arguments"),
        (lambda m: with_graph(m, outputs=("nobody",)), "outputs must be values"),
        (lambda m: with_graph(m, outputs=(), output_keys=()), "outputs must be values"),
        (lambda m: with_graph(m, input_dtypes=("float33",)), "unknown type 'float33'"),
        (lambda m: with_graph(m, input_dtypes=("load",)), "unknown type 'load'"),
        (lambda m: with_graph(m, input_shapes=((2, 2**25),)), "no input has the shape"),
        (lambda m: with_graph(m, input_shapes=((0, 6),)), "no input has the shape"),
        (lambda m: replace(m, stored={}), "not there yet|no tensor"),
    ],
)
def test_a_graph_that_does_not_hold_together_is_refused(model, change, says):
    with pytest.raises(GraphError, match=says):
        check_model(change(model))


def saved(path, tensor, inner):
    """A file with `tensor` as an initialiser, or in the body of a node."""
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    body = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["y"])], "g", [], [out], [tensor]
    )
    if inner:
        flag = numpy_helper.from_array(np.array(True), "flag")
        node = helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], "outer", [], [out], [flag])
    path.write_bytes(helper.make_model(body).SerializeToString())
    return path


@pytest.mark.parametrize("inner", [False, True])
def test_a_tensor_in_another_file_is_refused_wherever_it_is_named(tmp_path, inner):
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "t")
    check_onnx(saved(tmp_path / "whole.onnx", tensor, inner))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(CheckError, match="'t' is elsewhere"):
        check_onnx(saved(tmp_path / "apart.onnx", tensor, inner))
