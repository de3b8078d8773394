from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from paredown.hardware_models.timing import measure
from paredown.hardware_models.timing.measure import (
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


def test_a_raised_clock_and_other_work_leave_latencies_as_they_are(monkeypatch):
    """The speed of the machine changes with time, hits both models alike, and bursts are short."""
    generator = np.random.default_rng(3)

    def interleaved(models, threads, instances, blocks):
        speed = np.where(generator.random(blocks) < 0.1, 0.7, 1.0) * np.linspace(1.0, 1.4, blocks)
        sessions = np.array([[2e-3, 2.2e-3, 2.1e-3], [4e-3, 4e-3, 4e-3]])[: len(models)]
        delays = np.where(generator.random((len(models), instances, blocks)) < 0.2, 5.0, 1.0)
        return sessions[:, :instances, None] * speed * delays

    monkeypatch.setattr(measure, "time_interleaved", interleaved)
    monkeypatch.setattr(measure, "warm_runners", lambda *_: [])
    monkeypatch.setattr(
        measure, "time_blocks", lambda _, blocks: interleaved([0, 1], 1, 3, blocks).reshape(6, -1)
    )
    found = measure_ratio(b"", b"", blocks=101)
    assert found.ratio == pytest.approx(0.525)
    assert (found.low, found.high) == pytest.approx((0.5, 0.55))
    (alone,) = measure_latencies([b""], blocks=101)
    assert alone.mean_s == pytest.approx(2.1e-3 * 1.2, rel=0.1)


@pytest.mark.parametrize(
    ("scatter", "settled", "fewest", "most"),
    [
        (0.0, 0.0, 20, 20),  # all blocks alike: more of them say nothing
        (0.01, 0.0, 100, 100),
        (0.01, 0.005, 20, 20),  # 0.01 x sqrt(2) x 1.2533 / sqrt(20 x 3) is 0.0023
        (0.06, 0.005, 100, 100),  # 0.007 after 80 blocks
        (0.03, 0.004, 40, 80),  # 0.0069 after 20 blocks, 0.0034 after 80
    ],
)
def test_blocks_are_timed_until_they_change_nothing(monkeypatch, scatter, settled, fewest, most):
    generator = np.random.default_rng(5)
    timed = []

    def time_blocks(runners, count):
        timed.append(count)
        noise = 1 + scatter * generator.standard_normal((6, count))
        return np.array([[2e-3]] * 3 + [[4e-3]] * 3) * noise

    monkeypatch.setattr(measure, "warm_runners", lambda *_: [])
    monkeypatch.setattr(measure, "time_blocks", time_blocks)
    found = measure_ratio(b"", b"", blocks=100, settled=settled)
    assert fewest <= sum(timed) <= most
    assert found.ratio == pytest.approx(0.5, rel=0.03)


def test_the_fingerprint_tells_threads_apart():
    assert fingerprint(1) != fingerprint(2)
    assert "onnxruntime" in fingerprint(1)
