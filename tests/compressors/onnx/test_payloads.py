"""Bytes of tensors in an ONNX file, read back by ONNX's own reader."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from paredown.compressors.onnx.payloads import code_bytes, dense_bytes, scale_bytes, scales_of
from paredown.compressors.onnx.plan import ExportError
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Storage


def read(data, kind, dims):
    proto = TensorProto(data_type=kind, dims=dims, raw_data=data)
    return torch.from_numpy(numpy_helper.to_array(proto).astype(np.float32))


@pytest.fixture
def stored():
    codes = torch.tensor([[-7, 3, 0], [7, -1, 2]], dtype=torch.int8)
    storage = Storage(shape=(2, 3), bits=4, kept=6, onnx_type="int4")
    return {"w": StoredTensor(storage=storage, values=codes, scale=torch.tensor([0.5, 2.0]))}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("bits", "kind"), [(8, TensorProto.INT8), (4, TensorProto.INT4)])
def test_codes_come_back_from_the_file(stored, transposed, bits, kind):
    wanted = stored["w"].values.float()
    wanted = wanted.T if transposed else wanted
    found = read(code_bytes("w", transposed, bits)(stored), kind, wanted.shape)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_dense_tensor_is_what_its_codes_stand_for(stored, transposed):
    wanted = torch.tensor([[-3.5, 1.5, 0.0], [14.0, -2.0, 4.0]])
    wanted = wanted.T if transposed else wanted
    found = read(dense_bytes("w", transposed)(stored), TensorProto.FLOAT, wanted.shape)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("transposed", [False, True])
def test_scales_of_groups_are_turned_with_their_weight(stored, transposed):
    assert read(scale_bytes("w")(stored), TensorProto.FLOAT, (2,)).tolist() == [0.5, 2.0]
    scale = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    storage = Storage(shape=(2, 96), bits=4, kept=192, onnx_type="int4", group_size=32)
    codes = torch.zeros(2, 96, dtype=torch.int8)
    groups = {"w": StoredTensor(storage=storage, values=codes, scale=scale)}
    wanted = scale.T if transposed else scale
    found = read(scale_bytes("w", transposed)(groups), TensorProto.FLOAT, wanted.shape)
    assert torch.equal(found, wanted)


def test_floats_have_no_scales():
    with pytest.raises(ExportError, match="no scale"):
        scales_of(StoredTensor.of_floats(torch.ones(2)))
