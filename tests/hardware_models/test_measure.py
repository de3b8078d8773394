from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from paredown.hardware_models.measure import (
    LatencyMeter,
    MeasureError,
    fingerprint,
    measure_latencies,
    measure_ratio,
)


def chain(layers: int, kind: int = TensorProto.FLOAT) -> bytes:
    """Matrix products of 128 x 128 on 16 rows behind a cast, as an ONNX file's bytes."""
    weight = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32) / 12
    nodes = [helper.make_node("Cast", ["x"], ["h0"], to=TensorProto.FLOAT)]
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [f"h{i}", "w"], [f"h{i + 1}"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", kind, [16, 128])],
        [helper.make_tensor_value_info(f"h{layers}", TensorProto.FLOAT, [16, 128])],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def test_a_longer_model_takes_longer():
    short, long = measure_latencies([chain(1), chain(20)], instances=2, blocks=20)
    assert 3 * short.mean_s < long.mean_s
    assert short.min_s <= short.mean_s <= short.max_s
    assert short.instances == 2


def test_a_model_against_itself_is_about_one():
    measured = measure_ratio(chain(8), chain(8), blocks=30)
    assert measured.low <= measured.ratio <= measured.high
    assert measured.ratio == pytest.approx(1.0, abs=0.3)


def test_a_file_and_integer_inputs_are_timed(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(chain(1, TensorProto.INT64))
    (measured,) = measure_latencies([path], instances=1, blocks=3)
    assert measured.mean_s > 0


def test_a_file_that_is_no_model_is_refused():
    with pytest.raises(MeasureError, match="does not load"):
        measure_latencies([b"not an onnx file"])


def test_an_input_that_cannot_be_made_up_is_refused():
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "strings",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [1])],
    )
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    with pytest.raises(MeasureError, match="tensor\\(string\\)"):
        measure_latencies([model.SerializeToString()])


def test_the_meter_remembers_by_content(tmp_path):
    meter = LatencyMeter(tmp_path / "cache")
    first = meter.measure([chain(1), chain(2)])
    (path, _) = sorted((tmp_path / "cache").iterdir())
    planted = {**json.loads(path.read_text()), "mean_s": 42.0}
    path.write_text(json.dumps(planted))
    again = meter.measure([chain(1), chain(2), chain(3)])
    assert sorted(m.mean_s == 42.0 for m in again) == [False, False, True]
    assert len(first) == 2


def test_the_fingerprint_tells_threads_apart():
    assert fingerprint(1) != fingerprint(2)
    assert "onnxruntime" in fingerprint(1)
