"""What the knobs of one network are drawn from, and the list of what was left out on the way."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from paredown.search.config.schema_space import BlockRule, GroupRule, LayerRule, Rule, SegmentRule
from paredown.search.space.found_ranks import FindRanks
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.structure.model_map import LeftOut, ModelMap

RuleT = TypeVar("RuleT", LayerRule, SegmentRule, GroupRule, BlockRule)
TiedT = TypeVar("TiedT", LayerRule, SegmentRule)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One network, the rules, what the device offers, and the metrics that are optimised."""

    architecture: str
    model_map: ModelMap
    rules: tuple[Rule, ...]
    offered: Capabilities
    goals: frozenset[str]
    find_ranks: FindRanks | None
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, what: str, reason: str) -> None:
        """Records what is left out, once."""
        item = LeftOut(what=what, reason=reason)
        if item not in self.left_out:
            self.left_out.append(item)

    @property
    def is_timed(self) -> bool:
        """Whether a latency is among the goals."""
        return any(goal.partition("@")[0] == "latency_s" for goal in self.goals)

    @functools.cached_property
    def with_codes(self) -> frozenset[str]:
        """Layers that may have integer weights."""
        asked = {layer.name: layer_rule(self.rules, layer.name) for layer in self.model_map.layers}
        return frozenset(
            name for name, rule in asked.items() if min(rule.weight_bits or (32,)) < 32
        )


def matching(rules: Sequence[Rule], kind: type[RuleT], name: str) -> Iterator[tuple[int, RuleT]]:
    """The rules of one kind that name a part, with their positions."""
    for index, rule in enumerate(rules):
        if isinstance(rule, kind) and any(fnmatchcase(name, glob) for glob in rule.globs):
            yield index, rule


def merged(plain: RuleT, rules: Sequence[Rule], name: str) -> RuleT:
    """All that rules of its kind say of a part in one rule: later ones win, key by key.

    Args:
        plain: The rule that says nothing.
    """
    for _, rule in matching(rules, type(plain), name):
        plain = plain.model_copy(update={k: v for k, v in rule if v is not None})
    return plain


def layer_rule(rules: Sequence[Rule], name: str) -> LayerRule:
    """All that rules say of a layer."""
    return merged(LayerRule(layers=(name,)), rules, name)


def tie_of(rules: Sequence[Rule], name: str, kind: type[TiedT]) -> int | None:
    """Position of the rule that ties a part to others; None where it decides alone."""
    ties = [(index, rule.tie) for index, rule in matching(rules, kind, name)]
    return next((index if tie else None for index, tie in reversed(ties) if tie is not None), None)
