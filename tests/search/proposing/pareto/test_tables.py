"""Tabulated functions against the functions themselves."""

import itertools

import numpy as np
import pytest

from paredown.search.proposing.pareto.tables import Lookups, Tabulated, counting_numbers


def sets(*members):
    return [frozenset(each) for each in members]


def every_code(sizes):
    return np.array(list(itertools.product(*map(range, sizes))), np.int64)


class SumOfParts:
    """A random function with two values, for each clique one number a setting of its choices."""

    def __init__(self, sizes, cliques, seed):
        generator = np.random.default_rng(seed)
        self.cliques = [sorted(c) for c in cliques]
        self.parts = [generator.normal(size=(*(sizes[i] for i in c), 2)) for c in self.cliques]
        self.asked = []

    def __call__(self, codes):
        self.asked.append(tuple(codes.tolist()))
        pairs = zip(self.cliques, self.parts, strict=True)
        return np.sum([part[tuple(codes[c])] for c, part in pairs], axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_sum_over_random_cliques_is_exact_everywhere(seed):
    generator = np.random.default_rng(100 + seed)
    sizes = generator.integers(2, 4, 7).tolist()
    cliques = [
        frozenset(generator.choice(7, int(generator.integers(1, 5)), replace=False).tolist())
        for _ in range(6)
    ]
    # What is in no clique acts alone.
    alone = [frozenset({i}) for i in range(7) if not any(i in c for c in cliques)]
    function = SumOfParts(sizes, cliques + alone, seed)
    table = Tabulated(function, sizes, cliques, 2)
    codes = every_code(sizes)
    assert table(codes) == pytest.approx(np.array([function(row) for row in codes]), abs=1e-9)


def test_what_acts_together_outside_the_cliques_shows_as_a_difference():
    sizes = (2, 2, 2)

    def product(codes):
        return np.array([float(codes.prod())])

    table = Tabulated(product, sizes, sets({0, 1}, {1, 2}), 1)
    codes = np.array([[1, 1, 1]])
    assert table.exact(codes).tolist() == [[1.0]]
    # Each clique has a factor at its base, 0, in every term.
    assert table(codes).tolist() == [[0.0]]


def test_counting_numbers_of_a_chain_a_circle_and_a_star():
    chain = counting_numbers(sets({0, 1}, {1, 2}, {2, 3}))
    assert chain == {
        frozenset(s): n for s, n in [((0, 1), 1), ((1, 2), 1), ((2, 3), 1), ((1,), -1), ((2,), -1)]
    }
    circle = counting_numbers(sets({0, 1}, {1, 2}, {0, 2}))
    # The single choices take one away each, and the empty set gives back what is lacking to one.
    assert circle == {
        **{frozenset(s): 1 for s in [(0, 1), (1, 2), (0, 2)]},
        **{frozenset({i}): -1 for i in range(3)},
        frozenset(): 1,
    }
    star = counting_numbers(sets({0, 1}, {0, 2}, {0, 3}))
    assert star == {**{frozenset({0, i}): 1 for i in (1, 2, 3)}, frozenset({0}): -2}


def test_sets_inside_others_and_disjoint_sets():
    assert counting_numbers(sets({0, 1}, {1}, {0})) == {frozenset({0, 1}): 1}
    apart = counting_numbers(sets({0}, {1}, {2}))
    # f(a) + f(b) + f(c) - 2 f(base)
    assert apart == {**{frozenset({i}): 1 for i in range(3)}, frozenset(): -2}
    assert counting_numbers([]) == {frozenset(): 1}


@pytest.mark.parametrize("seed", range(4))
def test_every_set_of_cliques_counts_each_of_its_settings_once(seed):
    """The defining property: over the sets that hold any given set of the sum, counts add up to 1."""
    generator = np.random.default_rng(seed)
    cliques = [frozenset(generator.choice(8, 4, replace=False).tolist()) for _ in range(5)]
    counts = counting_numbers(cliques)
    assert sum(counts.values()) == 1
    for clique in counts:
        assert sum(n for other, n in counts.items() if clique <= other) == 1


def test_a_clique_too_large_for_a_table_is_taken_apart_into_pairs():
    sizes = (4,) * 9  # 4^9 settings of all nine together
    pairs = [frozenset(pair) for pair in itertools.combinations(range(9), 2)]
    function = SumOfParts(sizes, pairs, 3)
    table = Tabulated(function, sizes, [frozenset(range(9))], 2)
    codes = np.random.default_rng(0).integers(0, 4, (50, 9))
    found = table(codes)
    asked = len(function.asked)
    assert found == pytest.approx(np.array([function(row) for row in codes]), abs=1e-9)
    # No more than the settings of all pairs were asked for, and each had zeros but for two.
    assert asked <= 36 * 16
    assert all(sum(code != 0 for code in row) <= 2 for row in function.asked[:asked])


def test_each_entry_is_made_once_and_only_when_it_is_needed():
    sizes = (3, 3, 3)
    function = SumOfParts(sizes, sets({0, 1}, {1, 2}), 1)
    table = Tabulated(function, sizes, sets({0, 1}, {1, 2}), 2)
    assert function.asked == []
    codes = np.array([[1, 2, 0], [1, 2, 0], [1, 2, 2]])
    table(codes)
    # {0, 1} at (1, 2), {1} at 2, {1, 2} at (2, 0), which is the same, and at (2, 2).
    assert sorted(function.asked) == [(0, 2, 0), (0, 2, 2), (1, 2, 0)]
    table(codes)
    table.exact(codes[:1])
    assert len(function.asked) == 3
    table.exact(codes)
    assert sorted(function.asked)[-1] == (1, 2, 2)
    table(every_code(sizes))
    assert len(set(function.asked)) == len(function.asked)


def test_lookups_give_every_table_its_own_choices():
    asked = []

    def entry(table, codes):
        asked.append((table, tuple(codes.tolist())))
        return np.array([table, 100 * codes[0] + 10 * codes[1] + codes[2]], float)

    lookups = Lookups((2, 3, 4), [[0, 2], [1], []], entry, width=2)
    assert len(lookups) == 3
    found = lookups(np.array([[1, 2, 3], [0, 2, 3]]))
    assert found[:, :, 0].tolist() == [[0, 1, 2]] * 2
    assert found[:, :, 1].tolist() == [[103, 20, 0], [3, 20, 0]]
    assert sorted(asked) == [(0, (0, 0, 3)), (0, (1, 0, 3)), (1, (0, 2, 0)), (2, (0, 0, 0))]


def test_values_without_a_price_stay_without_one():
    def function(codes):
        return np.array([np.nan if codes[0] == 1 else float(codes[1])])

    table = Tabulated(function, (2, 3), sets({0}, {1}), 1)
    assert np.isnan(table(np.array([[1, 2], [0, 2]]))).ravel().tolist() == [True, False]
