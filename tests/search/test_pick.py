"""Picking by a sentence."""

import pytest

from paredown.search.evaluation import Evaluation
from paredown.search.pick import PickError, pick
from paredown.spaces.candidate import Candidate


def made(key, accuracy, latency_s, onnx_bytes):
    return Evaluation(
        number=0,
        key=key,
        candidate=Candidate(),
        metrics={"accuracy": accuracy, "latency_s": latency_s, "onnx_bytes": onnx_bytes},
    )


FULL = made("full", 0.881, 0.0021, 1_079_600.0)
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
    ],
)
def test_the_expression_finds_the_model(expression, key):
    assert pick(FRONT, expression, FULL).key == key


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("accuracy >= 0.9, min latency_s", "closest is a with accuracy 0.88"),
        ("speed <= 1, max accuracy", "'speed'; known are accuracy, latency_s, onnx_bytes"),
        ("max speed", "known are accuracy"),
        ("latency_s <= 0.002", "exactly one .* got 0"),
        ("max accuracy, min latency_s", "exactly one .* got 2"),
        ("latency_s = 2, max accuracy", "got 'latency_s = 2'"),
        ("latency_s <= 1.2.3, max accuracy", "a limit is a number"),
        ("latency_s <= 20%, max accuracy", "write it like"),
    ],
)
def test_what_is_wrong_is_told(expression, words):
    with pytest.raises(PickError, match=words):
        pick(FRONT, expression, FULL)


def test_a_ratio_needs_the_uncompressed_model():
    with pytest.raises(PickError, match="relative to the uncompressed"):
        pick(FRONT, "onnx_bytes <= 0.5x, max accuracy")


def test_an_empty_front_cannot_be_picked_from():
    with pytest.raises(PickError, match="at least one model"):
        pick((), "max accuracy")
