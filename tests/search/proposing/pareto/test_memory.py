"""What is kept of many evaluations, and what is forgotten."""

import numpy as np

from paredown.search.proposing.pareto.memory import LATEST, MOST, Memory


def filled(lost, costs):
    """A memory of candidates that came in this order, whose codes are their numbers."""
    memory = Memory.empty(1, 1, costs.shape[1])
    for number, (mine, paid) in enumerate(zip(lost, costs, strict=True)):
        memory = memory.with_one(np.array([number]), np.array([mine]), paid)
    return memory


def numbers(memory):
    return memory.codes[:, 0].tolist()


def test_all_are_kept_in_order_until_there_are_too_many():
    generator = np.random.default_rng(0)
    lost, costs = generator.random(MOST), generator.random((MOST, 2))
    memory = filled(lost, costs)
    assert numbers(memory) == list(range(MOST))
    assert (memory.lost[:, 0] == lost).all()
    assert (memory.costs == costs).all()
    assert len(Memory.empty(3, 2, 1)) == 0
    assert Memory.empty(3, 2, 1).lost.shape == (0, 2)


def test_what_lost_most_against_the_best_of_no_higher_costs_goes_first():
    lost, costs = np.zeros(MOST + 1), np.arange(MOST + 1.0)[:, None]
    lost[50] = 0.5  # fifty cheaper ones lost nothing
    lost[0] = 9.0  # nothing is cheaper: it leads
    assert numbers(filled(lost, costs)) == [n for n in range(MOST + 1) if n != 50]


def test_the_latest_stay_however_bad_and_the_front_stays_for_good():
    generator = np.random.default_rng(1)
    count = 2 * MOST
    costs = generator.random((count, 1))
    lost = 1 - costs[:, 0] + 0.2 * generator.random(count)
    lost[-LATEST // 2 :] += 5.0
    memory = filled(lost, costs)
    assert len(memory) == MOST
    assert numbers(memory)[-LATEST:] == list(range(count - LATEST, count))
    leads = {n for n in range(count) if not ((costs[:, 0] <= costs[n]) & (lost < lost[n])).any()}
    assert leads
    assert leads <= set(numbers(memory))


def test_of_several_costs_all_must_be_no_higher():
    lost = np.zeros(MOST + 1)
    costs = np.ones((MOST + 1, 2))
    costs[7] = (
        0.5,
        2.0,
    )  # cheaper in one, dearer in the other: nothing of no higher costs but itself
    lost[7] = 3.0
    costs[9] = 1.0, 1.0
    lost[9] = 0.1
    assert set(range(MOST + 1)) - set(numbers(filled(lost, costs))) == {9}
