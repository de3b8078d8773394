from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paredown.compressors.statistics.layer_statistics import StatisticsError
from paredown.compressors.statistics.ranges import Range, collect_ranges
from paredown.spaces.capture.capturing import Captured, capture
from paredown.spaces.graph.functions import quantize_dequantize


class _Identity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


@functools.cache
def _graph_of(width: int) -> Captured:
    return capture(_Identity(), torch.zeros(1, width))


def _ranges(x: Tensor) -> dict[str, Range]:
    captured = _graph_of(x.shape[1])
    return collect_ranges(captured.graph, captured.tensors, [[part] for part in x.split(32)])


def _error(x: Tensor, found: Range) -> float:
    rounded = quantize_dequantize(x, *found.scale_and_zero_point(), 0, 255)
    return float((rounded - x).square().sum())


@settings(max_examples=25, deadline=None)
@given(
    shift=st.floats(-20.0, 20.0),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    outlier=st.sampled_from([1.0, 30.0]),
    seed=st.integers(0, 10**6),
)
def test_clipping_is_never_worse_than_the_full_range_and_zero_stays_exact(
    shift: float, spread: float, outlier: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = shift + spread * torch.randn(64, 50, generator=generator)
    x[0, 0] *= outlier
    ranges = _ranges(x)
    (graph_input,) = (name for name in ranges if not name.startswith("relu"))
    for name, value in ((graph_input, x), ("relu", x.relu())):
        found = ranges[name]
        scale, zero_point = found.scale_and_zero_point()
        assert (found.minimum, found.maximum) == (float(value.min()), float(value.max()))
        assert found.low <= 0 <= found.high
        assert scale > 0
        assert scale == float(np.float32(scale))
        assert 0 <= zero_point <= 255
        assert zero_point == 0 or found.minimum < 0
        zero = quantize_dequantize(torch.zeros(1), scale, zero_point, 0, 255)
        assert float(zero) == 0.0
        full = Range(
            minimum=found.minimum,
            maximum=found.maximum,
            low=min(found.minimum, 0.0),
            high=max(found.maximum, 0.0),
        )
        assert _error(value, found) <= _error(value, full) * (1 + 1e-6)


@pytest.mark.parametrize(("width", "is_clipped"), [(64, False), (4096, True)])
def test_an_outlier_is_clipped_where_that_pays(width: int, is_clipped: bool) -> None:
    x = torch.randn(256, width, generator=torch.Generator().manual_seed(0))
    x[3, 7] = 11.0
    found = _ranges(x)["relu"]
    assert found.maximum == 11.0
    assert (found.high < 8.0) == is_clipped
    assert found.scale_and_zero_point()[1] == 0
    ends = [11.0 * (1.0 - 0.025 * step) for step in range(29)]
    tried = [Range(minimum=0.0, maximum=11.0, low=0.0, high=end) for end in ends]
    # The whole data decide, though only a sample of them was kept.
    assert _error(x.relu(), found) <= 1.02 * min(_error(x.relu(), r) for r in tried)


def test_rare_large_values_count_in_full() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 20_000, generator=generator)
    is_rare = torch.rand(x.shape, generator=generator) < 1e-4
    x = torch.where(is_rare, 12.0 + x, x)
    # One in ten thousand: an even sample of 8,192 meets one or none in each batch.
    assert _ranges(x)["relu"].high > 11.0


def test_a_value_that_is_always_zero_has_scale_one() -> None:
    assert _ranges(-torch.ones(4, 3))["relu"].scale_and_zero_point() == (1.0, 0)


def test_integer_inputs_have_no_range() -> None:
    captured = capture(nn.Embedding(4, 2), torch.zeros(1, 3, dtype=torch.int64))
    tokens = torch.ones(2, 3, dtype=torch.int64)
    ranges = collect_ranges(captured.graph, captured.tensors, [[tokens]])
    assert list(ranges) == [captured.graph.outputs[0]]


def test_values_that_are_not_finite_and_missing_data_are_refused() -> None:
    with pytest.raises(StatisticsError, match="finite"):
        _ranges(torch.full((2, 3), math.nan))
    captured = _graph_of(3)
    with pytest.raises(StatisticsError, match="at least one batch"):
        collect_ranges(captured.graph, captured.tensors, [])


class Causal(nn.Module):
    """Scores of which the later ones are hidden by infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("future", torch.full((4, 4), -math.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.softmax(self.score(x) + self.future, -1))


def test_infinity_that_masks_scores_has_no_range_and_is_refused_anywhere_else() -> None:
    module, x = Causal().eval(), torch.randn(2, 4, 4)
    captured = capture(module, x)
    ranges = collect_ranges(captured.graph, captured.tensors, [[x]])
    (total,) = (node.name for node in captured.graph.nodes if node.op == "aten.add.Tensor")
    assert total not in ranges
    assert 0.0 < ranges[next(n for n in ranges if "softmax" in n)].maximum <= 1.0
    with pytest.raises(StatisticsError, match=r"'x' must be finite"):
        collect_ranges(captured.graph, captured.tensors, [[torch.full((2, 4, 4), math.inf)]])
