"""Evolution on a known worth against trying everything."""

import itertools

import numpy as np
import pytest

from paredown.search.proposing.pareto.exploring import explore
from paredown.search.proposing.pareto.problem import Choices


def choices(sizes, ordered):
    return Choices(
        names=tuple(f"c{i}" for i in range(len(sizes))), sizes=tuple(sizes), ordered=tuple(ordered)
    )


def start(space):
    return np.zeros((1, space.count), np.int64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_ordered", [True, False])
def test_the_best_of_a_small_space_is_found(seed, is_ordered):
    """Worth with interactions of neighbours, 4^7 candidates."""
    space = choices((4,) * 7, (is_ordered,) * 7)
    generator = np.random.default_rng(seed)
    alone, beside = generator.normal(size=(7, 4)), generator.normal(size=(6, 4, 4))

    def worth(codes):
        own = sum(alone[i][codes[:, i]] for i in range(7))
        return own + sum(beside[i][codes[:, i], codes[:, i + 1]] for i in range(6))

    best = worth(np.array(list(itertools.product(range(4), repeat=7)))).max()
    found, worths = explore(space, start(space), worth, np.random.default_rng(seed), 30)
    assert worths[0] == pytest.approx(best)
    assert worths == pytest.approx(worth(found))
    assert (np.diff(worths) <= 0).all()
    assert len(np.unique(found, axis=0)) == len(found)


def test_it_stays_within_the_space_and_reaches_all_of_it():
    space = choices((1, 2, 5), (True, False, True))
    seen = set()

    def worth(codes):
        assert (codes >= 0).all()
        assert (codes < np.array(space.sizes)).all()
        seen.update(map(tuple, codes.tolist()))
        return codes.sum(axis=1).astype(float)

    found, worths = explore(space, start(space), worth, np.random.default_rng(0), 5)
    assert len(seen) == 10
    assert found[0].tolist() == [0, 1, 4]
    assert worths[0] == 5


def test_a_good_start_is_never_lost():
    space = choices((5,) * 40, (True,) * 40)
    target = np.random.default_rng(1).integers(0, 5, 40)

    def worth(codes):
        return (codes == target).all(axis=1).astype(float)

    begin = np.vstack([start(space), target, target])
    found, worths = explore(space, begin, worth, np.random.default_rng(0), 6)
    assert found[0].tolist() == target.tolist()
    assert worths[0] == 1.0
    assert worths[1] == 0.0


def test_the_same_random_numbers_find_the_same():
    space = choices((3,) * 20, (True,) * 20)
    weights = np.random.default_rng(2).normal(size=20)
    runs = [
        explore(space, start(space), lambda c: c @ weights, np.random.default_rng(4), 3)
        for _ in range(2)
    ]
    assert (runs[0][0] == runs[1][0]).all()
    other, _ = explore(space, start(space), lambda c: c @ weights, np.random.default_rng(5), 3)
    assert other.shape != runs[0][0].shape or (other != runs[0][0]).any()


def test_a_large_space_is_climbed_to_its_top():
    space = choices((4,) * 60, (True,) * 60)
    weights = np.random.default_rng(3).normal(size=60)
    _, worths = explore(space, start(space), lambda c: c @ weights, np.random.default_rng(0), 150)
    assert worths[0] > 0.95 * 3 * weights[weights > 0].sum()
