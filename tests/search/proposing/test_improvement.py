"""The expected gain against sampling, and where it must be nothing or exact."""

from statistics import NormalDist

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from paredown.search.proposing.improvement import expected_gain


def gain_of(point, front, reference):
    inside = front[(front < reference).all(axis=1)]
    before = compute_hypervolume(inside, reference) if len(inside) else 0.0
    if not (point < reference).all():
        return 0.0
    return compute_hypervolume(np.vstack([inside, point]), reference) - before


@pytest.mark.parametrize("costs", [1, 2, 3])
def test_the_gain_is_the_mean_over_the_qualities(costs):
    generator = np.random.default_rng(costs)
    reference = np.full(1 + costs, 1.0)
    front = generator.uniform(0, 1.1, (7, 1 + costs))
    candidates = generator.uniform(0, 0.9, (5, costs))
    mean, deviation = generator.uniform(0, 1, 5), generator.uniform(0.05, 0.3, 5)
    # Gains fall with quality, so those at both edges of a slice of the distribution enclose its mean.
    edges = NormalDist().inv_cdf
    slices = 400
    for i, found in enumerate(expected_gain(mean, deviation, candidates, front, reference)):
        gains = [
            gain_of(
                np.append(mean[i] + deviation[i] * edges(k / slices), candidates[i]),
                front,
                reference,
            )
            for k in range(1, slices)
        ]
        # The first slice reaches down without end: its mean lies below that of a far point.
        far = gain_of(np.append(mean[i] - 8 * deviation[i], candidates[i]), front, reference)
        assert sum(gains) / slices <= found <= (far + sum(gains)) / slices
        assert far / slices < 0.01


def test_a_certain_quality_gives_the_gain_itself():
    reference = np.array([1.0, 1.0, 1.0])
    front = np.array([[0.5, 0.5, 0.5], [0.2, 0.9, 0.3], [0.7, 0.1, 0.8]])
    points = np.array([[0.4, 0.6, 0.4], [0.6, 0.6, 0.6], [0.1, 0.1, 0.1]])
    found = expected_gain(points[:, 0], np.zeros(3), points[:, 1:], front, reference)
    assert found == pytest.approx([gain_of(p, front, reference) for p in points], abs=1e-9)
    assert found[1] == pytest.approx(0.0, abs=1e-12)


def test_an_empty_front_and_costs_beyond_the_reference():
    reference = np.array([1.0, 2.0])
    empty = np.empty((0, 2))
    found = expected_gain(
        np.array([0.5, 0.5]), np.zeros(2), np.array([[1.0], [3.0]]), empty, reference
    )
    assert found == pytest.approx([0.5, 0.0])
