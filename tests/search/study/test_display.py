"""How values and candidates are written."""

import pytest

from paredown.search.study.display import Outline, describe, show, summarize, title_of, unit_of
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space

OUTLINE = Outline(layer_weights={"a": 100, "b": 300}, segments=("s", "t"), widths={"g": 32})


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.8811, "88.11 %"),
        ("onnx_bytes", 285_900.0, "285.9 kB"),
        ("onnx_bytes", 512.0, "512.0 B"),
        ("latency_s", 0.0021, "2.100 ms"),
        ("energy_j", 3.2e-6, "3.200 µJ"),
        ("macs", 40_551_680.0, "40.55 M"),
        ("loss", 0.3612, "0.361"),
    ],
)
def test_a_value_is_shown_in_the_unit_that_reads_best(metric, value, text):
    assert show(metric, value) == text


def test_low_rank_forms_are_counted_where_one_is_not_the_default():
    channel = LayerChoice(rank=Rank(0.5))
    assert describe(Candidate.of(layers={"a": channel}), OUTLINE).endswith("; rank 88%")
    spatial = Candidate.of(layers={"a": channel, "b": LayerChoice(rank=Rank(0.5, "spatial"))})
    assert describe(spatial, OUTLINE).endswith("; rank 50% (channel × 1, spatial × 1)")
    # Of tucker's two ranks the mean of their shares, in a quarter of the weights.
    two = LayerChoice(rank=Rank(0.5, "tucker", 0.9))
    assert describe(Candidate.of(layers={"a": two}), OUTLINE).endswith("; rank 92% (tucker × 1)")


def test_titles_carry_their_unit():
    assert title_of("peak_memory_bytes", unit_of("peak_memory_bytes", 5e5)) == "peak memory (kB)"
    assert title_of("onnx_bytes") == "ONNX file"


def test_a_summary_weighs_layers_by_their_weights():
    candidate = Candidate.of(
        layers={
            "a": LayerChoice(weight_bits=8),
            "b": LayerChoice(weight_bits=4, zeros=Zeros(0.5)),
        },
        segments={"s": SegmentChoice(activation_bits=8)},
        widths={"g": 16},
        dropped=("block",),
    )
    summary = summarize(candidate, OUTLINE)
    assert summary.weight_bits == pytest.approx(5.0)
    assert summary.sparsity == pytest.approx(0.375)
    assert (summary.int8_share, summary.width_share, summary.dropped) == (0.5, 0.5, 1)
    text = describe(candidate, OUTLINE)
    assert text == (
        "weights 5 bit on average (1 layer at 4, 1 at 8); 8-bit activations in 50% of segments; "
        "38% sparse; width 50%; without block"
    )


def test_the_identity_is_plain():
    assert describe(Candidate(), OUTLINE) == "weights 32 bit (all 2 layers)"


def test_what_goes_with_a_block_does_not_count():
    outline = Outline(
        layer_weights={"a": 100, "b": 300, "c": 100},
        segments=("s", "t"),
        widths={"g": 32, "h": 16},
        blocks={"block": frozenset({"b", "t", "h"})},
    )
    candidate = Candidate.of(
        layers={"a": LayerChoice(weight_bits=8), "c": LayerChoice(weight_bits=4)},
        segments={"s": SegmentChoice(activation_bits=8)},
        dropped=("block",),
    )
    assert describe(candidate, outline) == (
        "weights 6 bit on average (1 layer at 4, 1 at 8); 8-bit activations in 100% of "
        "segments; without block"
    )


def test_an_outline_knows_what_lies_in_each_block(mapped):
    model_map = mapped("resnet_a")
    block = model_map.blocks[0]
    left = Outline.of(model_map).without((block.name,))
    assert set(left.layer_weights) == {x.name for x in model_map.layers} - set(block.layers)
    assert all(
        set(s.layers) - set(block.layers)
        for s in model_map.segments
        if s.name in left.segments and s.layers
    )
    gone = [g.name for g in model_map.groups if set(g.producers) <= set(block.layers)]
    assert gone
    assert not set(gone) & set(left.widths)


def test_a_candidate_of_another_architecture_is_told_by_its_own_layers(mapped):
    names = {"large": "resnet_a", "small": "mlp"}
    space = Space(
        architectures=tuple(
            Architecture(name=name, model_map=mapped(network), knobs=())
            for name, network in names.items()
        )
    )
    both = Outline.of_space(space)
    for name, network in names.items():
        own = Outline.of(mapped(network))
        layers = {layer: LayerChoice(weight_bits=4) for layer in own.layer_weights}
        candidate = Candidate.of(architecture=name, layers=layers)
        told = describe(candidate, both)
        assert told == f"{name}; weights 4 bit (all {len(layers)} layers)"
        assert summarize(candidate, both) == summarize(candidate, own)
        assert own.layer_weights.items() <= both.layer_weights.items()
