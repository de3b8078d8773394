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


@pytest.mark.parametrize("costs", [1, 2, 3, 4])
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
        assert sum(gains) / slices - 1e-12 <= found <= (far + sum(gains)) / slices + 1e-12
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


@pytest.mark.parametrize("costs", [1, 2, 3])
def test_what_is_better_than_the_best_there_can_be_counts_as_that(costs):
    generator = np.random.default_rng(10 + costs)
    reference, best = np.full(1 + costs, 1.0), 0.4
    front = generator.uniform(0, 1.0, (6, 1 + costs))
    front[0, 0] = 0.1  # lucky
    candidates = generator.uniform(0, 0.9, (5, costs))
    mean, deviation = generator.uniform(0.3, 0.6, 5), np.full(5, 0.2)
    believed = np.column_stack([np.maximum(front[:, 0], best), front[:, 1:]])
    quantiles = [NormalDist().inv_cdf((k + 0.5) / 2000) for k in range(2000)]
    found = expected_gain(mean, deviation, candidates, front, reference, best)
    for i in range(5):
        qualities = np.maximum(mean[i] + deviation[i] * np.array(quantiles), best)
        # Up to its quality a gain is a step function's integral: the mean over quantiles comes near.
        gains = expected_gain(
            qualities, np.zeros(2000), np.tile(candidates[i], (2000, 1)), believed, reference
        )
        assert found[i] == pytest.approx(gains.mean(), rel=2e-3, abs=1e-6)
    free = expected_gain(mean, deviation, candidates, front[1:], reference)
    assert (found <= free + 1e-12).all()


def test_a_candidate_surely_better_than_the_best_gains_what_the_best_would():
    reference = np.array([1.0, 1.0])
    found = expected_gain(
        np.array([-5.0]), np.array([0.1]), np.array([[0.5]]), np.empty((0, 2)), reference, 0.2
    )
    assert found == pytest.approx([0.8 * 0.5])


def test_without_costs_it_is_the_expected_improvement_on_the_best_one():
    mean, deviation = np.array([0.4, 0.6, 0.9]), np.array([0.1, 0.1, 0.2])
    front, reference = np.array([[0.7], [0.5]]), np.array([1.0])
    found = expected_gain(mean, deviation, np.empty((3, 0)), front, reference)
    z = (0.5 - mean) / deviation
    normal = NormalDist()
    right = [
        s * (x * normal.cdf(x) + normal.pdf(x)) for s, x in zip(deviation, z.tolist(), strict=True)
    ]
    assert found == pytest.approx(right)
    nothing_there = expected_gain(
        mean, deviation * 1e-9, np.empty((3, 0)), np.empty((0, 1)), reference
    )
    assert nothing_there == pytest.approx([0.6, 0.4, 0.1])


def test_members_of_equal_costs_and_on_the_reference_take_nothing_twice():
    reference = np.ones(4)
    front = np.array(
        [[0.2, 0.5, 0.5, 0.5], [0.1, 0.5, 0.5, 0.5], [0.3, 0.5, 0.2, 0.5], [0.1, 1.0, 0, 0]]
    )
    point = np.array([0.4, 0.1, 0.1, 0.1])
    found = expected_gain(point[:1], np.zeros(1), point[None, 1:], front, reference)
    assert found == pytest.approx([gain_of(point, front, reference)])
