"""Arms that search parts of the space: one dimension alone, all of them apart, or one after the other.

Uniform references lie outside of most parts, and would lend them a front: these arms do without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from paredown.search.running.benching.arm import Arm, Group
from paredown.search.running.benching.contests import Contest, History, Search
from paredown.search.running.benching.restricting import Dimension, dimensions_of, restricted
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import front_of, volume_axes
from paredown.spaces.knobs.space import Space

_CONTINUED = 4
"""Pruned models that are quantised, at most."""
_FEWEST = 4
"""Evaluations that a pruned model is quantised with, at least."""


@dataclass(frozen=True, kw_only=True)
class TogetherArm:
    """Some dimensions together; all other knobs stand at their least harmful values."""

    name: str
    sampler: str
    dimensions: tuple[Dimension, ...]
    group: Group = Group.PARTS

    @property
    def text(self) -> str:
        """What it searches."""
        names = ", ".join(each.name for each in self.dimensions)
        return f"{names} by the sampler {self.sampler}, all else as it harms least"

    def carry_out(self, contest: Contest, seed: int, budget: int) -> History:
        """One search."""
        space = restricted(contest.workbench.space, self.dimensions)
        return contest.carry_out(_search(space, self.sampler, seed, budget))


@dataclass(frozen=True, kw_only=True)
class UnionArm:
    """Each dimension alone with its share of the budget, and all that they found together."""

    sampler: str
    dimensions: tuple[Dimension, ...]
    name: str = "union of single"
    group: Group = Group.PARTS

    @property
    def text(self) -> str:
        """What it searches."""
        names = ", ".join(each.name for each in self.dimensions)
        return f"the fronts of {names} together, each searched alone with its share of the budget"

    def carry_out(self, contest: Contest, seed: int, budget: int) -> History:
        """Searches whose evaluations are taken in turn; the uncompressed model counts once."""
        shares = shared(budget - 1, len(self.dimensions))
        histories = [
            contest.carry_out(
                _search(
                    restricted(contest.workbench.space, [dimension]),
                    self.sampler,
                    seed,
                    1 + share,
                )
            )
            for dimension, share in zip(self.dimensions, shares, strict=True)
        ]
        turns = zip_longest(*histories)
        return tuple({e.key: e for turn in turns for e in turn if e is not None}.values())


@dataclass(frozen=True, kw_only=True)
class SequentialArm:
    """First prunes with half of the budget, then quantises what came out with the other half.

    At most four pruned models are quantised, spread evenly over the front as far as it has quality that
    counts.
    """

    sampler: str
    pruning: tuple[Dimension, ...]
    quantising: tuple[Dimension, ...]
    name: str = "prune then quantise"
    group: Group = Group.PARTS

    @property
    def text(self) -> str:
        """What it searches."""
        first, then = (", ".join(d.name for d in each) for each in (self.pruning, self.quantising))
        return f"{first} with half of the budget, then {then} of at most {_CONTINUED} of its front"

    def carry_out(self, contest: Contest, seed: int, budget: int) -> History:
        """Both searches, one after the other."""
        space, half = contest.workbench.space, (budget + 1) // 2
        history = contest.carry_out(
            _search(restricted(space, self.pruning), self.sampler, seed, half)
        )
        left = max(budget - len(history), 0)
        members = _spread_front(contest, history, min(_CONTINUED, max(1, left // _FEWEST)))
        for member, share in zip(members, shared(left, len(members)), strict=True):
            behind = restricted(space, self.quantising, member.candidate)
            search = _search(behind, self.sampler, seed, len(history) + share)
            history = contest.carry_out(replace(search, behind=history))
        return history


def part_arms(space: Space, sampler: str) -> tuple[Arm, ...]:
    """The arms of a space with several dimensions; none where there is one alone."""
    dimensions = dimensions_of(space)
    if len(dimensions) < 2:
        return ()
    pruning = tuple(each for each in dimensions if each.is_pruning)
    quantising = tuple(each for each in dimensions if not each.is_pruning)
    sequential = (SequentialArm(sampler=sampler, pruning=pruning, quantising=quantising),)
    return (
        TogetherArm(name="joint", sampler=sampler, dimensions=dimensions),
        *(
            TogetherArm(name=f"only {each.name}", sampler=sampler, dimensions=(each,))
            for each in dimensions
        ),
        UnionArm(sampler=sampler, dimensions=dimensions),
        *(sequential if pruning and quantising else ()),
    )


def _search(space: Space, sampler: str, seed: int, evaluations: int) -> Search:
    return Search(
        space=space, sampler=sampler, seed=seed, evaluations=evaluations, has_references=False
    )


def _spread_front(contest: Contest, history: History, count: int) -> list[Evaluation]:
    """Members of the front whose quality counts, from the cheapest on, evenly spread over their costs.

    The uncompressed model where there is none.
    """
    goals = contest.goals
    members = front_of(history, goals, contest.base.rung).members or (contest.base,)
    points = volume_axes(np.array([[m.metrics[g.metric] for g in goals] for m in members]), goals)
    is_cost = np.array([goal.is_cost for goal in goals])
    counts = (points[:, ~is_cost] <= contest.worst[~is_cost]).all(axis=1)
    costs = points[:, is_cost].sum(axis=1)
    order = [int(i) for i in np.argsort(costs, kind="stable") if counts[i]]
    if not order:
        return [contest.base]
    targets = np.linspace(costs[order[0]], costs[order[-1]], count)
    nearest = [min(order, key=lambda i: abs(costs[i] - target)) for target in targets]
    return [members[i] for i in dict.fromkeys(nearest)]


def shared(count: int, parts: int) -> list[int]:
    """`count` as even as can be, the larger shares first.

    >>> shared(8, 3)
    [3, 3, 2]
    """
    each, more = divmod(max(count, 0), parts) if parts else (0, 0)
    return [each + (index < more) for index in range(parts)]
