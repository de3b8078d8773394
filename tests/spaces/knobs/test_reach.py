"""Reach of knobs on networks small enough to count by hand."""

import pytest
import torch
from torch import nn

from paredown.spaces.candidates.candidate import SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.capture.capturing import capture
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import DropKnob
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.reach import float_bytes, reached_shares
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.knobs.width import WidthKnob
from paredown.spaces.structure.reading import read_model_map


class Residual(nn.Module):
    """4 -> 4 with a bypass around 4 -> 6 -> 4, then 4 -> 2: 4 tensors of bias, 4 of weight."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(x + self.down(torch.relu(self.up(x))))


FIRST, UP, DOWN, LAST = 16, 24, 24, 8
BIASES = {"first": 4, "up": 6, "down": 4, "last": 2}
TOTAL = FIRST + UP + DOWN + LAST + sum(BIASES.values())


@pytest.fixture(scope="module")
def model_map():
    torch.manual_seed(0)
    return read_model_map(capture(Residual(), torch.randn(3, 4)))


def shares_of(model_map, *knobs):
    return reached_shares(Architecture(name="", model_map=model_map, knobs=knobs))


def test_all_floats_are_counted(model_map):
    assert sum(float_bytes(model_map).values()) == 4 * TOTAL
    assert float_bytes(model_map)["up.bias"] == 4 * 6


def test_whole_numbers_are_no_weights():
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.register_buffer("places", torch.tensor([4, 3, 1]))

        def forward(self, x):
            return x @ self.table(self.places).t()

    model_map = read_model_map(capture(Placed(), torch.randn(2, 4)))
    assert all(size in (5 * 4 * 4, 3 * 4 * 4) for size in float_bytes(model_map).values())


def test_bits_and_rank_reach_the_weights_of_their_layers(model_map):
    found = shares_of(
        model_map,
        WeightBitsKnob(name="a", targets=("first", "up"), domain=(32, 8)),
        WeightBitsKnob(name="b", targets=("down",), domain=(32, 4)),
        RankKnob(name="c", targets=("last",), domain=(Rank(1.0), Rank(0.5))),
    )
    assert found == {
        "weight_bits": pytest.approx((FIRST + UP + DOWN) / TOTAL),
        "rank_fraction": pytest.approx(LAST / TOTAL),
    }


def test_a_layer_of_two_knobs_counts_once(model_map):
    twice = [WeightBitsKnob(name=n, targets=("up",), domain=(32, 8)) for n in "ab"]
    assert shares_of(model_map, *twice) == {"weight_bits": pytest.approx(UP / TOTAL)}


def test_a_knob_that_changes_nothing_reaches_nothing(model_map):
    found = shares_of(
        model_map,
        WeightBitsKnob(name="a", targets=("up",), domain=(32,)),
        SegmentKnob(name="s", targets=(model_map.segments[0].name,), domain=(SegmentChoice(),)),
    )
    assert found == {"weight_bits": 0, "segment": 0}


def test_what_changes_no_cost_is_left_out(model_map):
    assert shares_of(model_map, MethodKnob(name="m", targets=("up",), domain=("gptq",))) == {}


def test_a_fixed_value_reaches_what_it_changes(model_map):
    fixed = WeightBitsKnob(name="a", targets=("up",), domain=(4,))
    assert shares_of(model_map, fixed) == {"weight_bits": pytest.approx(UP / TOTAL)}


def test_a_width_reaches_makers_biases_and_readers(model_map):
    (group,) = (g for g in model_map.groups if g.producers == ("up",))
    knob = WidthKnob(name="w", targets=(group.name,), domain=(6, 3), channels=6)
    assert shares_of(model_map, knob) == {
        "width": pytest.approx((UP + BIASES["up"] + DOWN) / TOTAL)
    }


def test_a_drop_reaches_weights_and_biases_of_its_block(model_map):
    (block,) = model_map.blocks
    knob = DropKnob(name="d", targets=(block.name,), domain=(False, True))
    lost = UP + DOWN + BIASES["up"] + BIASES["down"]
    assert shares_of(model_map, knob) == {"drop": pytest.approx(lost / TOTAL)}
