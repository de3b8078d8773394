"""Candidates are values: sorted, without identities, and named by what they hold."""

from __future__ import annotations

import json

import pytest

from paredown.spaces.candidates.candidate import (
    IDENTITY_CHOICE,
    IDENTITY_SEGMENT,
    Candidate,
    LayerChoice,
    SegmentChoice,
    Setting,
)
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros

FOUR = LayerChoice(weight_bits=4, method="gptq")


def test_order_and_identities_do_not_matter() -> None:
    one = Candidate.of(layers={"b": FOUR, "a": FOUR, "c": IDENTITY_CHOICE}, dropped=("y", "x"))
    two = Candidate.of(
        layers={"a": FOUR, "b": FOUR}, segments={"s": IDENTITY_SEGMENT}, dropped=("x", "y")
    )
    assert one == two
    assert one.key == two.key
    assert hash(one) == hash(two)


def test_every_field_changes_the_key() -> None:
    candidates = [
        Candidate(),
        Candidate.of(architecture="a"),
        Candidate.of(layers={"a": FOUR}),
        Candidate.of(layers={"b": FOUR}),
        Candidate.of(layers={"a": LayerChoice(weight_bits=4)}),
        Candidate.of(layers={"a": LayerChoice(zeros=Zeros(0.5, "element"))}),
        Candidate.of(layers={"a": LayerChoice(zeros=Zeros(0.5, "2:4"))}),
        Candidate.of(segments={"a": SegmentChoice(activation_bits=8)}),
        Candidate.of(segments={"a": SegmentChoice(container="fast")}),
        Candidate.of(widths={"a": 3}),
        Candidate.of(widths={"a": 4}),
        Candidate.of(dropped=("a",)),
    ]
    assert len({candidate.key for candidate in candidates}) == len(candidates)


def test_a_key_never_changes() -> None:
    # keys are written to disk: a change here orphans every earlier run
    assert Candidate().key == "6d66a15d99c9"
    assert Candidate.of(layers={"a": FOUR}, widths={"g": 3}).key == "24a93fb476fe"


def test_what_is_not_named_is_the_identity() -> None:
    candidate = Candidate.of(layers={"a": FOUR})
    assert candidate.layer("a") == FOUR
    assert candidate.layer("b").is_identity
    assert candidate.segment("s") == IDENTITY_SEGMENT


def test_json_holds_only_what_differs() -> None:
    candidate = Candidate.of(layers={"a": FOUR}, widths={"g": 3})
    assert candidate.to_json() == {
        "architecture": "",
        "layers": {"a": {"weight_bits": 4, "method": "gptq"}},
        "segments": {},
        "widths": {"g": 3},
        "dropped": [],
    }
    assert Candidate.from_json(candidate.to_json()) == candidate


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        Candidate.from_json({"layers": {"a": {"colour": 3}}})


WRITTEN = {
    "architecture": "small",
    "layers": {
        "conv1": {"weight_bits": 4, "sparsity": 0.5, "pattern": "2:4", "method": "gptq"},
        "fc": {
            "weight_bits": 3,
            "rank_fraction": 0.25,
            "decomposition": "tucker",
            "written_fraction": 0.5,
            "group_size": 32,
        },
    },
    "segments": {"conv1": {"activation_bits": 8, "container": "fast", "ranges": "dynamic"}},
    "widths": {"conv1": 12},
    "dropped": ["block2"],
}
"""As version 0.1.0 wrote it into journals, cards and bundles."""


def test_what_earlier_versions_wrote_is_read_and_written_alike() -> None:
    candidate = Candidate.from_json(WRITTEN)
    assert candidate == Candidate.of(
        architecture="small",
        layers={
            "conv1": LayerChoice(weight_bits=4, zeros=Zeros(0.5, "2:4"), method="gptq"),
            "fc": LayerChoice(weight_bits=3, rank=Rank(0.25, "tucker", 0.5), group_size=32),
        },
        segments={"conv1": SegmentChoice(activation_bits=8, container="fast", ranges="dynamic")},
        widths={"conv1": 12},
        dropped=("block2",),
    )
    assert json.dumps(candidate.to_json()) == json.dumps(WRITTEN)
    assert candidate.key == "9dcf063c37a8"
    half = Candidate.of(layers={"fc": LayerChoice(rank=Rank(0.5))})
    assert half.to_json()["layers"] == {"fc": {"rank_fraction": 0.5}}
    assert half.key == "08c878e35956"


def test_a_setting_gives_back_the_candidate_that_it_began_with() -> None:
    candidate = Candidate.from_json(WRITTEN)
    setting = Setting.of(candidate)
    assert setting.candidate() == candidate
    setting.layers["conv1"] = IDENTITY_CHOICE
    assert candidate.layer("conv1").weight_bits == 4
    assert "conv1" not in dict(setting.candidate().layers)
