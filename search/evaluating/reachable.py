"""Hard bounds that no model of the space meets, found by price alone before anything is trained or timed.

Costs of a candidate are exact before it exists, so the cheapest of the space can be sought at once: knob
by knob the value with the least cost, from several starts, until none lowers it further.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paredown.search.study.display import show
from paredown.search.study.evaluation import Goal
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.architecture_choice import ARCHITECTURE
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.errors import ParedownError

Price = Callable[[Candidate, Sequence[str]], Mapping[str, float] | None]


class BoundError(ParedownError):
    """No model of the space meets a hard bound."""


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The candidate that comes nearest to some bounds.

    `excess` is the largest ratio of a cost to its bound: at most 1 where all are met.
    """

    candidate: Candidate
    values: Mapping[str, float]
    excess: float


def check_bounds(
    space: Space, goals: Sequence[Goal], price: Price, uncompressed: Mapping[str, float]
) -> None:
    """Refuses bounds on costs that no model is found to meet, each alone and all together.

    Args:
        goals: Those whose costs `price` knows.
        uncompressed: Costs of the uncompressed model.

    Raises:
        BoundError: The message names the bound and the nearest model that was found.
    """
    bounded = [goal for goal in goals if goal.is_cost and goal.at_most is not None]
    for goal in bounded:
        found = nearest(space, [goal], price)
        if found is not None and found.excess > 1:
            raise BoundError(_unmet(goal, found, uncompressed))
    found = nearest(space, bounded, price) if len(bounded) > 1 else None
    if found is not None and found.excess > 1:
        listed = " and ".join(f"{g.metric} <= {show(g.metric, g.at_most or 0)}" for g in bounded)
        values = ", ".join(
            f"{g.metric} {show(g.metric, found.values[g.held_metric])}" for g in bounded
        )
        raise BoundError(
            f"goals: no model of the space was found within {listed} together, though each alone can be "
            f"met; the nearest has {values}; loosen one of them, or open more of the space"
        )


def nearest(space: Space, goals: Sequence[Goal], price: Price) -> Nearest | None:
    """The candidate with the least excess over these bounds, or the first that meets them all.

    None where nothing has a price.
    """
    names = [goal.held_metric for goal in goals]
    known: dict[str, Nearest | None] = {}

    def _priced(candidate: Candidate) -> Nearest | None:
        if candidate.key not in known:
            values = price(candidate, names)
            known[candidate.key] = None if values is None else _nearest(candidate, values, goals)
        return known[candidate.key]

    best: Nearest | None = None
    for start in _starts(space):
        best = _descended(space, start, _priced, best)
        if best is not None and best.excess <= 1:
            break
    return best


def _nearest(candidate: Candidate, values: Mapping[str, float], goals: Sequence[Goal]) -> Nearest:
    excess = max(values[goal.held_metric] / (goal.at_most or 1) for goal in goals)
    return Nearest(candidate=candidate, values=values, excess=excess)


def _starts(space: Space) -> Iterator[dict[str, int]]:
    """Of each architecture the settings at either end of every domain: widths may be listed upwards."""
    sizes = space.dimensions()
    for index in range(len(space.architectures)):
        chosen = {ARCHITECTURE: index} if ARCHITECTURE in sizes else {}
        yield dict.fromkeys(sizes, 0) | chosen
        yield {name: size - 1 for name, size in sizes.items()} | chosen


def _descended(
    space: Space,
    parameters: dict[str, int],
    priced: Callable[[Candidate], Nearest | None],
    best: Nearest | None,
) -> Nearest | None:
    """The better of `best` and what changing one parameter after the other leads to."""
    sizes = space.dimensions()
    here = priced(space.decode(parameters))
    is_moving = True
    while is_moving and (here is None or here.excess > 1):
        is_moving = False
        for name, size in sizes.items():
            if name == ARCHITECTURE:
                continue  # each has starts of its own
            for value in range(size):
                changed = parameters | {name: value}
                there = priced(space.decode(changed))
                if there is not None and (here is None or there.excess < here.excess):
                    parameters, here, is_moving = changed, there, True
    if best is None or (here is not None and here.excess < best.excess):
        return here
    return best


def _unmet(goal: Goal, found: Nearest, uncompressed: Mapping[str, float]) -> str:
    assert goal.at_most is not None
    value, base = found.values[goal.held_metric], uncompressed[goal.metric]
    bound, reached = show(goal.metric, goal.at_most), show(goal.metric, value)
    loosest = value / base if goal.relative else value
    share = f", {value / base:.3g} of the uncompressed model's" if base else ""
    return (
        f"goals: no model of the space was found with {goal.metric} <= {bound}; the nearest has "
        f"{reached}{share}; set its at_most to {_rounded_up(loosest)} or more, or open more of the space"
    )


def _rounded_up(value: float) -> str:
    """With four digits, and never below the value.

    >>> _rounded_up(12_343.2), _rounded_up(0.12341)
    ('12350', '0.1235')
    """
    text = f"{value:.4g}"
    if float(text) < value:
        digits = decimal.Decimal(repr(value))
        step = decimal.Decimal(1).scaleb(digits.adjusted() - 3)
        text = format((digits / step).to_integral_value(decimal.ROUND_CEILING) * step, "f")
    return f"{float(text):.6g}"
