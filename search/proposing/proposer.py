"""Proposes candidates: what samplers suggest, never twice the same and never over a hard bound.

Where they repeat themselves, a candidate is sought without them: in a small space among all there are,
so that the search ends as soon as nothing is left, in a large one at random.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from paredown.search.proposing.sampler import Sampler
from paredown.search.study.evaluation import Evaluation
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space

PATIENCE = 10_000
"""Random draws of a large space that find nothing new before the search gives up."""
_SMALL = 5_000
"""Settings up to which a space is small: all of them are decoded and priced in seconds."""
_STUBBORN, _STUBBORN_SMALL = 200, 20
"""Refused draws in a row after which the sampler has converged, in a large and in a small space."""


class SpaceExhausted(Exception):
    """No new candidate within the bounds is left, or none was found; the message says which."""


class Proposer:
    """Asks samplers in turn for candidates, and passes on to all of them what was evaluated.

    Args:
        space: What candidates are drawn from.
        samplers: The first that suggests something is heard; none at all leaves it to chance.
        refused_by: The metric whose hard bound a candidate's price breaks, or None.
        within: A candidate within the hard bounds, near which others are sought where draws from
            the whole space lie outside.
    """

    def __init__(
        self,
        space: Space,
        samplers: Sequence[Sampler],
        refused_by: Callable[[Candidate], str | None],
        within: Candidate | None = None,
    ) -> None:
        self._space = space
        self._samplers = tuple(samplers)
        self._random = random.Random(0)
        self._sizes = space.dimensions()
        self._settings = math.prod(self._sizes.values())
        self._unseen = self._shuffled() if self._settings <= _SMALL else None
        self._swept: set[str] = set()
        self._within = None if within is None else space.encode(within)
        self._refused_by = refused_by
        self._known: set[str] = set()
        self.over_bound: dict[str, int] = {}

    def ask(self) -> Candidate:
        """A candidate that was never proposed before and breaks no hard bound.

        Raises:
            SpaceExhausted: None was found; the message names the tightest bound.
        """
        for candidate in self._found():
            if self._is_new(candidate):
                for sampler in self._samplers:
                    sampler.expect(candidate)
                return candidate
        raise SpaceExhausted(self._why_exhausted())

    def expect(self, keys: Iterable[str]) -> None:
        """Candidates that are evaluated without being asked for: never propose them."""
        self._known |= set(keys)

    def learn(self, evaluation: Evaluation) -> None:
        """Takes the evaluation of a proposal, or of a candidate evaluated for another reason."""
        self._known.add(evaluation.key)
        for sampler in self._samplers:
            sampler.learn(evaluation)

    def _found(self) -> Iterator[Candidate]:
        """Suggestions as long as there is hope in them, then what is found without."""
        for _ in range(_STUBBORN if self._unseen is None else _STUBBORN_SMALL):
            suggested = (sampler.suggest(self._known) for sampler in self._samplers)
            candidate = next((each for each in suggested if each is not None), None)
            if candidate is None:
                break
            yield candidate
        for parameters in self._unseen if self._unseen is not None else self._at_random():
            candidate = self._space.decode(parameters)
            self._swept.add(candidate.key)
            yield candidate

    def _is_new(self, candidate: Candidate) -> bool:
        """Whether to propose it: not known, and within the hard bounds. Known from now on."""
        if candidate.key in self._known:
            return False
        self._known.add(candidate.key)
        metric = self._refused_by(candidate)
        if metric is not None:
            self.over_bound[metric] = self.over_bound.get(metric, 0) + 1
        return metric is None

    def _shuffled(self) -> Iterator[dict[str, int]]:
        """Every setting once, in random order; what was passed over is known for good."""
        for number in self._random.sample(range(self._settings), self._settings):
            parameters = {}
            for name, size in self._sizes.items():
                number, parameters[name] = divmod(number, size)
            yield parameters

    def _at_random(self) -> Iterator[dict[str, int]]:
        if self._within is not None:
            yield self._within
        for draw in range(PATIENCE):
            drawn = {name: self._random.randrange(size) for name, size in self._sizes.items()}
            if self._within is not None and draw % 2:
                # From a step or two away to anywhere: how wide the bounds are is not known.
                kept = self._random.random()
                drawn |= {n: v for n, v in self._within.items() if self._random.random() < kept}
            yield drawn

    def _why_exhausted(self) -> str:
        over = sum(self.over_bound.values())
        worst = max(self.over_bound, key=lambda name: self.over_bound[name], default="")
        remedy = f"most over that of {worst}; loosen it, or open more of the space"
        if self._unseen is None:
            start = f"{PATIENCE} random draws found nothing new"
            return f"{start}: known or over a bound, {remedy}" if over else f"{start} in the space"
        models = f"{len(self._swept)} model{'s' * (len(self._swept) != 1)}"
        if over:
            return f"the space is exhausted: {over} of its {models} are over a bound, {remedy}"
        return f"the space is exhausted: all of it was evaluated, {models}; open more to go on"
