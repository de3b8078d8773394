"""Picking by a sentence."""

import pytest

from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.picking import PickError, pick
from paredown.spaces.candidates.candidate import Candidate


def made(key, accuracy, latency_s, onnx_bytes):
    return Evaluation(
        number=0,
        key=key,
        candidate=Candidate(),
        metrics={"accuracy": accuracy, "latency_s": latency_s, "onnx_bytes": onnx_bytes},
    )


FULL = made("full", 0.881, 0.0021, 1_079_600.0)
GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
FRONT = (
    made("a", 0.88, 0.0011, 286e3),
    made("b", 0.87, 0.0011, 144e3),
    made("c", 0.7, 0.001, 77e3),
)


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("max accuracy", "a"),
        ("min onnx_bytes", "c"),
        ("latency_s <= 0.002, max accuracy", "a"),
        ("latency_s<1.1e-3,max accuracy", "c"),
        ("onnx_bytes <= 0.25x, max accuracy", "b"),
        ("accuracy >= 0.99x, min onnx_bytes", "a"),
        ("min latency_s, accuracy > .8", "a"),
        # Without an aim the first goal decides.
        ("latency_s <= 0.002", "a"),
        ("onnx_bytes <= 150kB, latency <= 2ms", "b"),
        ("onnx_bytes < 150 kB", "b"),
        # 77,000 bytes are 75.2 KiB, 144,000 are 140.6 KiB.
        ("onnx_bytes <= 76KiB", "c"),
        ("onnx_bytes <= 75KiB, onnx_bytes <= 1MB, min latency", None),
        ("onnx_bytes <= 141KiB", "b"),
        ("onnx_bytes <= 140KiB", "c"),
        ("latency <= 1000us", "c"),
        ("latency <= 1000µs", "c"),
        # 25 % of 1,079,600 bytes; of a quality 87.5 % is 0.875.
        ("onnx_bytes <= 25%", "b"),
        ("onnx_bytes <= 25 %, accuracy >= 60%, min onnx_bytes", "c"),
        ("accuracy >= 87.5%, min onnx_bytes", "a"),
    ],
)
def test_the_expression_finds_the_model(expression, key):
    if key is None:
        with pytest.raises(PickError, match="no model on the front"):
            pick(FRONT, expression, GOALS, FULL)
        return
    assert pick(FRONT, expression, GOALS, FULL).key == key


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("accuracy >= 0.9, min latency_s", "closest is a with accuracy 0.88"),
        ("speed <= 1, max accuracy", "'speed'; known are accuracy, latency_s, onnx_bytes"),
        ("max speed", "known are accuracy"),
        ("", "one 'max metric' .* got 0"),
        ("max accuracy, min latency_s", "got 2 of these"),
        ("onnx_byte <= 3kB", "did you mean onnx_bytes"),
        ("max acuracy", "did you mean accuracy"),
        ("onnx_bytes <= 3kb", "did you mean kB"),
        ("latency_s <= 3 kB", "'kB' is no unit of latency_s.*known here: s, ms"),
        ("latency_s = 2, max accuracy", "got 'latency_s = 2'"),
        ("latency_s <= 1.2.3, max accuracy", "got 'latency_s <= 1.2.3'"),
        ("latency_s <= 20 km/h, max accuracy", "write it like"),
    ],
)
def test_what_is_wrong_is_told(expression, words):
    with pytest.raises(PickError, match=words):
        pick(FRONT, expression, GOALS, FULL)


def test_a_ratio_needs_the_uncompressed_model():
    with pytest.raises(PickError, match="relative to the uncompressed"):
        pick(FRONT, "onnx_bytes <= 0.5x, max accuracy", GOALS)


def test_an_empty_front_cannot_be_picked_from():
    with pytest.raises(PickError, match="at least one model"):
        pick((), "max accuracy", GOALS)
