"""What stands beside the point under the mouse: short lines, ratios, and why a layer is absent."""

import html
from dataclasses import replace

import pytest

from paredown.search.report.hovers import hovers, why_absent
from paredown.search.study.display import Outline
from paredown.spaces.candidates.candidate import Candidate


def test_each_point_that_is_drawn_has_a_text_that_fits_a_telephone(picture):
    texts = hovers(picture)
    assert set(texts) == {e.number for e in picture.evaluations if not e.is_failed}
    for text in texts.values():
        _name, *lines = html.unescape(text).split("<br>")
        described = lines[-1]
        assert len(described) <= 30
        assert described == described.strip()


def test_costs_are_compared_with_the_uncompressed_model_which_is_compared_with_nothing(picture):
    texts = hovers(picture)
    whole, eight = picture.references[:2]
    ratio = whole.metrics["onnx_bytes"] / eight.metrics["onnx_bytes"]
    assert f"{ratio:.2f}×" in texts[eight.number]
    points = 100 * (eight.metrics["accuracy"] - whole.metrics["accuracy"])
    assert f"{points:+.2f}" in texts[eight.number]
    assert "×" not in texts[whole.number]
    # A label replaces the key as a name, so the key has a line of its own.
    assert f"<br>{eight.key}<br>" in texts[eight.number]


def test_names_from_outside_are_text(picture):
    named = replace(picture.evaluations[0], label="<i>mine</i>")
    texts = hovers(replace(picture, evaluations=(named,)))
    assert "&lt;i&gt;mine&lt;/i&gt;" in texts[named.number]
    assert "<i>" not in texts[named.number]


SMALL = Outline(layer_weights={"a": 1}, widths={}, blocks={"deep": frozenset({"a"})})
BOTH = Outline(
    layer_weights={"a": 1, "b": 1},
    widths={},
    blocks={"wide": frozenset({"b"})},
    architectures={"small": SMALL},
)


@pytest.mark.parametrize(
    ("candidate", "layer", "reason"),
    [
        (Candidate(dropped=("wide",)), "b", "gone with block wide"),
        (Candidate(), "c", "not in this network"),
        (Candidate(architecture="small"), "b", "not in small"),
        (Candidate(architecture="small", dropped=("deep",)), "a", "gone with block deep"),
        # A block of another network of the search takes nothing from this one.
        (Candidate(architecture="small", dropped=("wide",)), "b", "not in small"),
    ],
)
def test_a_layer_is_absent_with_its_block_or_its_network(candidate, layer, reason):
    assert why_absent(BOTH, candidate, layer) == reason
