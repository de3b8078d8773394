"""Arms: what each evaluates, and how they are chosen by name."""

from __future__ import annotations

import pytest

from paredown.search.config.schema import SAMPLERS
from paredown.search.running.benching.arms import ArmError, arms_of, chosen
from paredown.search.space.uniform_settings import uniform_settings


def test_each_built_in_sampler_is_an_arm_with_the_uniforms_first_and_without(workbench):
    names = [arm.name for arm in arms_of(workbench.space, "mine.samplers:make")]
    for sampler in (*SAMPLERS, "mine.samplers:make"):
        assert sampler in names
        # pareto begins with them anyway.
        assert (f"{sampler}+uniforms" in names) == (sampler != "pareto")
    assert len(set(names)) == len(names)


def test_arms_are_chosen_by_glob_in_their_own_order(workbench):
    arms = arms_of(workbench.space, "random")
    assert chosen(arms, ()) == arms
    assert [a.name for a in chosen(arms, ["uniforms", "tpe*"])] == [
        "uniforms",
        "tpe",
        "tpe+uniforms",
    ]
    with pytest.raises(ArmError, match="tpe2"):
        chosen(arms, ["tpe", "tpe2"])


def test_the_uniforms_are_the_references_and_the_uniform_settings(contest, workbench):
    (arm,) = chosen(arms_of(workbench.space, "random"), ["uniforms"])
    history = arm.carry_out(contest, 0, 50)
    uniform = {c.key for c in uniform_settings(workbench.space.architectures)}
    assert {e.key for e in history} == uniform | {e.key for e in history[:3]}
