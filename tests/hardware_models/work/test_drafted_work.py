"""The work of drafted candidates, against the integer kernels that the runtime gives them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from paredown.compressors.kernels.kernel_checks import integer_kernels, promised_kernels
from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.work.workload import read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.structure.reading import read_model_map

# The kinds of work whose integer kernels the exporter counts.
COUNTED = {
    "conv": "QLinearConv",
    "linear": "QGemm",
    "add": "QLinearAdd",
    "pool": "QLinearGlobalAveragePool",
}


class Codes(dict):
    """Different codes for every value, made when asked for."""

    def __missing__(self, value):
        self[value] = (0.01 + 0.001 * len(self), 0)
        return self[value]


def candidates(model_map, count):
    chooser = random.Random(0)
    for _ in range(count):
        yield Candidate.of(
            segments={
                segment.name: SegmentChoice(
                    activation_bits=chooser.choice((8, 32)),
                    container=chooser.choice(("compact", "fast")),
                )
                for segment in model_map.segments
            },
            layers={
                layer.name: LayerChoice(
                    weight_bits=chooser.choice((2, 4, 8, 32)),
                    rank=Rank(
                        chooser.choice((1.0, 0.4)),
                        chooser.choice(("channel", "spatial", "tucker")),
                    ),
                )
                for layer in model_map.layers
            },
        )


@pytest.fixture(scope="module")
def model_map(residual_chain):
    return read_model_map(residual_chain(3, 16))


def test_integer_operators_are_those_of_the_runtime_and_at_least_those_promised(model_map):
    for candidate in candidates(model_map, 20):
        blueprint = draft(model_map, candidate)
        found = Counter(
            COUNTED[op.kind]
            for op in read_work(blueprint).operators
            if op.integer and op.kind in COUNTED
        )
        assert found == integer_kernels(lower(imagine(blueprint, 0)).SerializeToString())
        # More: float layers between codes, which the runtime rounds itself.
        assert found >= promised_kernels(blueprint)


def test_a_price_needs_no_codes(model_map):
    for candidate in candidates(model_map, 20):
        assert read_work(draft(model_map, candidate)) == read_work(
            draft(model_map, candidate, Codes())
        )
