"""What rules let a segment compute with: the order, what is left out, and what ties change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.config.schema_space import SegmentRule
from paredown.search.space.scope import tie_of
from paredown.search.space.segment_rules import segment_choices
from paredown.search.space.tied_knobs import SpaceError
from paredown.spaces.candidates.candidate import SegmentChoice
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

FLOAT, STATIC = SegmentChoice(), SegmentChoice(activation_bits=8)
DYNAMIC = SegmentChoice(activation_bits=8, ranges="dynamic")
BOTH = SegmentRule(segments="*", activation_bits=(8, 32), ranges=("static", "dynamic"))


@pytest.fixture(scope="module")
def model_map():
    """A segment of a convolution, then one of a linear layer."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    return read_model_map(capture(layers, torch.randn(1, 3, 5, 5)))


@pytest.fixture
def choose(model_map):
    def make(*rules, device="x86-avx512-vnni-ort", with_codes=("0", "3")):
        told = []
        can = capabilities(load_device(device))
        found = [
            segment_choices(s, model_map, rules, can, with_codes, lambda *item: told.append(item))
            for s in model_map.segments
        ]
        return found, told

    return make


def test_the_least_harmful_comes_first_and_only_linear_layers_find_ranges(choose):
    (conv, linear), told = choose(BOTH)
    assert conv == (FLOAT, STATIC)
    assert linear == (FLOAT, DYNAMIC, STATIC)
    assert [what for what, _ in told] == ["dynamic ranges of some segments"]


def test_linear_layers_that_stay_float_read_no_codes(choose):
    (_, linear), told = choose(BOTH, with_codes=("0",))
    assert linear == (FLOAT, STATIC)
    assert {what for what, _ in told} == {"dynamic ranges of some segments"}


def test_ranges_of_a_segment_that_is_never_in_8_bits_are_listed(choose):
    wide = SegmentRule(segments="*", activation_bits=(32,), ranges=("dynamic",))
    (_, linear), told = choose(wide)
    assert linear == (FLOAT,)
    assert told[-1] == ("dynamic ranges of segment 3", "no rule gives it 8 activation bits")


def test_static_ranges_need_not_be_asked_for(choose):
    found, told = choose(SegmentRule(segments="*", activation_bits=(8,)))
    assert found == [(STATIC,), (STATIC,)]
    assert told == []


def test_dynamic_ranges_alone_leave_a_convolution_in_float(choose):
    found, _ = choose(SegmentRule(segments="*", activation_bits=(8,), ranges=("dynamic",)))
    assert found == [(FLOAT,), (DYNAMIC,)]


def test_a_tied_knob_keeps_what_one_of_its_segments_reads(choose, model_map):
    tied = BOTH.model_copy(update={"tie": True})
    found, told = choose(tied)
    assert found == [(FLOAT, DYNAMIC, STATIC)] * 2
    assert told == []
    assert {tie_of([tied], s.name, SegmentRule) for s in model_map.segments} == {0}
    free = SegmentRule(segments="*", tie=False)
    assert {tie_of([tied, free], s.name, SegmentRule) for s in model_map.segments} == {None}


def test_a_device_without_such_kernels_lists_or_refuses_them(choose):
    (_, linear), told = choose(BOTH, device="h100-sxm-trt")
    assert linear == (FLOAT, STATIC)
    assert set(told) == {("ranges dynamic", "h100-sxm-trt does not offer it")}
    alone = SegmentRule(segments="*", activation_bits=(8,), ranges=("dynamic",))
    with pytest.raises(SpaceError, match=r"ranges of segment .* \['static'\], got \['dynamic'\]"):
        choose(alone, device="h100-sxm-trt")


def test_a_later_rule_wins_field_by_field(choose):
    (conv, linear), _ = choose(BOTH, SegmentRule(segments="*", ranges=("static",)))
    assert conv == linear == (FLOAT, STATIC)
