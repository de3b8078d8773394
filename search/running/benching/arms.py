"""The arms of a bench: who searches which part of the space, all with the same number of evaluations."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from paredown.search.config.schema import SAMPLERS
from paredown.search.proposing.samplers import PARETO
from paredown.search.running.benching.arm import Arm, Group
from paredown.search.running.benching.contests import Contest, History, Search
from paredown.search.running.benching.parts import part_arms
from paredown.search.space.uniform_settings import uniform_settings
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.errors import ParedownError


class ArmError(ParedownError):
    """An arm is asked for that the bench does not have."""


@dataclass(frozen=True, kw_only=True)
class SamplerArm:
    """A sampler on the whole space, with the uniform settings given first or not."""

    sampler: str
    begins_uniform: bool = False
    group: Group = Group.SAMPLERS

    @property
    def name(self) -> str:
        """The sampler's name."""
        return f"{self.sampler}+uniforms" if self.begins_uniform else self.sampler

    @property
    def text(self) -> str:
        """The sampler, and what it begins with."""
        first = ", the uniform settings first" if self.begins_uniform else ""
        return f"sampler {self.sampler} on all knobs{first}"

    def carry_out(self, contest: Contest, seed: int, budget: int) -> History:
        """One search."""
        space = contest.workbench.space
        first = uniform_settings(space.architectures) if self.begins_uniform else []
        return contest.carry_out(
            Search(
                space=space,
                sampler=self.sampler,
                seed=seed,
                evaluations=budget,
                first=tuple(first),
            )
        )


@dataclass(frozen=True, kw_only=True)
class UniformArm:
    """The uniform settings of the space and nothing else."""

    name: str = "uniforms"
    group: Group = Group.BESIDE
    text: str = "all layers at one width, each width of the space; nothing is searched"

    def carry_out(self, contest: Contest, seed: int, budget: int) -> History:
        """References and uniform settings, as many as the budget has room for."""
        space = contest.workbench.space
        first = uniform_settings(space.architectures)
        return contest.carry_out(
            Search(space=space, sampler=None, seed=seed, evaluations=budget, first=tuple(first))
        )


def arms_of(space: Space, sampler: str) -> tuple[Arm, ...]:
    """Every arm that the space has.

    Args:
        sampler: That of the config, a built-in one or the user's own.
    """
    whole = (
        SamplerArm(sampler=name, begins_uniform=first)
        for name in dict.fromkeys((*SAMPLERS, sampler))
        # pareto begins with the uniform settings of itself.
        for first in ((False,) if name == PARETO else (False, True))
    )
    return (UniformArm(), *whole, *part_arms(space, sampler))


def chosen(arms: Sequence[Arm], patterns: Sequence[str]) -> tuple[Arm, ...]:
    """The arms whose names match one of these glob patterns, in their own order; all without any.

    Raises:
        ArmError: A pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(arm.name, pattern) for arm in arms):
            names = ", ".join(arm.name for arm in arms)
            raise ArmError(f"--arms must name arms of {names}, got {pattern!r}; take one of them")
    return tuple(
        arm
        for arm in arms
        if not patterns or any(fnmatch.fnmatchcase(arm.name, each) for each in patterns)
    )
