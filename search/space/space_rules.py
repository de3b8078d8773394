"""Draws the space from the config's rules, the model's map and what the device offers.

A choice that moves no goal is left out here and listed with the reason, never searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from paredown.search.config.schema_space import BlockRule, GroupRule, SpaceSection
from paredown.search.space.found_ranks import FindRanks
from paredown.search.space.layer_rules import layer_knobs
from paredown.search.space.rule_names import check_rank_errors, check_rule_names, check_settings
from paredown.search.space.scope import Scope, matching, merged
from paredown.search.space.segment_rules import segment_knobs
from paredown.search.space.tied_knobs import SpaceError, tied
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import DropKnob
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.width import WidthKnob
from paredown.spaces.structure.model_map import LeftOut, ModelMap


def build_space(
    section: SpaceSection,
    maps: Mapping[str, ModelMap],
    capabilities: Capabilities,
    goals: Sequence[str],
    find_ranks: FindRanks | None = None,
) -> Space:
    """The space of all architectures.

    Args:
        section: The config's rules; later ones win, field by field.
        maps: By architecture name, the reference first.
        capabilities: What the device offers: widths come in its steps, types are those it loads.
        goals: Metrics that are optimised.
        find_ranks: Asked where a rule has `rank_error`.

    Raises:
        RuleNameError, ScaleRuleError, SpaceError: A rule names what is not there, says how to do what
            is not asked for, methods do not go together, or nothing is left to decide.
    """
    check_settings(section.rules)
    check_rule_names(section.rules, maps.values())
    check_rank_errors(section.rules, maps.values())
    architectures = []
    left_out: dict[str, LeftOut] = {}
    for name, model_map in maps.items():
        scope = Scope(
            architecture=name,
            model_map=model_map,
            rules=section.rules,
            offered=capabilities,
            goals=frozenset(goals),
            find_ranks=find_ranks,
        )
        knobs = tuple(chain.from_iterable(tied(draw(scope)) for draw in KNOBS))
        architectures.append(Architecture(name=name, model_map=model_map, knobs=knobs))
        for item in (*model_map.left_out, *scope.left_out):
            left_out.setdefault(f"{item.what}{item.reason}", item)
    space = Space(architectures=tuple(architectures), left_out=tuple(left_out.values()))
    if not space.dimensions():
        raise SpaceError(
            "space.rules must leave at least one choice open, got none for this model and these "
            "goals; add values to a rule, or a goal that they move"
        )
    return space


def _widths(scope: Scope) -> Iterable[tuple[None, Knob]]:
    for group in scope.model_map.groups:
        asked = merged(GroupRule(groups=(group.name,), width=(1.0,)), scope.rules, group.name)
        if not any(matching(scope.rules, GroupRule, group.name)):
            continue
        # A head is as wide as the device may want by itself: every number of heads is as good.
        step = asked.step or (1 if group.entries > 1 else scope.offered.width_step)
        counts = {round(share * group.channels) for share in asked.width}
        widths = {w for w in counts if w > 0 and w % step == 0} | {group.channels}
        for width in sorted(counts - widths):
            scope.leave_out(
                f"width {width} of {group.name}",
                f"{scope.offered.device} runs channels in multiples of {step}; a rule's "
                "step overrides it",
            )
        yield (
            None,
            WidthKnob(
                name=f"{group.name}:{WidthKnob.kind}",
                targets=(group.name,),
                domain=tuple(sorted(widths, reverse=True)),
                channels=group.channels,
            ),
        )


def _drops(scope: Scope) -> Iterable[tuple[None, Knob]]:
    for block in scope.model_map.blocks:
        if merged(BlockRule(blocks=(block.name,), drop=False), scope.rules, block.name).drop:
            name = f"{block.name}:{DropKnob.kind}"
            yield None, DropKnob(name=name, targets=(block.name,), domain=(False, True))


KNOBS: tuple[Callable[[Scope], Iterable[tuple[int | None, Knob]]], ...] = (
    layer_knobs,
    segment_knobs,
    _widths,
    _drops,
)
"""What opens each kind of knob, in the order of their parameters: knobs with the rules that tie them."""
