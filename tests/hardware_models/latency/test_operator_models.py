from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from paredown.compressors.kernels.kernel_checks import integer_kernels, kernels
from paredown.hardware_models.latency.operator_models import operator_model
from paredown.hardware_models.latency.table import Signature

CONV = Signature(
    kind="conv", integer=False, onnx_type="float32", in_channels=16, out_channels=16,
    kernel_size=(3, 3), stride=(1, 1), groups=1, out_spatial=64, batch=1,
)  # fmt: skip
LINEAR = replace(CONV, kind="linear", kernel_size=(), stride=(), out_spatial=1)


def integer(wanted: Signature) -> Signature:
    return replace(wanted, integer=True, onnx_type="int8")


def run(model: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    return session.run(None, {value.name: np.ones(value.shape, np.float32)})[0]


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [
        (CONV, (1, 16, 8, 8)),
        (replace(CONV, stride=(2, 2), out_channels=32), (1, 32, 8, 8)),
        (replace(CONV, kind="depthwise_conv", groups=16), (1, 16, 8, 8)),
        (replace(CONV, onnx_type="int4"), (1, 16, 8, 8)),
        (replace(LINEAR, out_channels=8, batch=3), (3, 8)),
        (integer(CONV), (1, 16, 8, 8)),
        (integer(LINEAR), (1, 16)),
    ],
)
def test_a_signature_becomes_a_model_of_its_shapes(wanted, shape):
    model = operator_model(wanted)
    onnx.checker.check_model(onnx.load_from_string(model))
    assert run(model).shape == shape


@pytest.mark.parametrize(
    ("wanted", "kernel"),
    [
        (integer(CONV), "QLinearConv"),
        (replace(integer(CONV), onnx_type="int4"), "QLinearConv"),
        (integer(LINEAR), "QGemm"),
    ],
)
def test_integer_operators_run_on_integer_kernels(wanted, kernel):
    assert integer_kernels(operator_model(wanted, repeats=3))[kernel] == 3


def test_narrow_weights_alone_are_floats_once_the_model_is_loaded():
    found = kernels(operator_model(replace(CONV, onnx_type="int4"), repeats=2))
    assert found == kernels(operator_model(CONV, repeats=2))


@pytest.mark.parametrize(
    "wanted",
    [
        replace(LINEAR, in_channels=1024, out_channels=1024, onnx_type="int4"),
        replace(CONV, kernel_size=(3,), stride=(1,)),
        replace(CONV, out_spatial=60),
        replace(CONV, onnx_type="int2"),
        replace(CONV, kind="conv_transpose"),
    ],
)
def test_what_a_signature_does_not_tell_has_no_model(wanted):
    assert operator_model(wanted) is None
