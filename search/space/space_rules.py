"""Draws the space from the config's rules, the model's map and what the device offers.

A choice that moves no goal is left out here and listed with the reason, never searched.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, get_args

from paredown.search.config.schema_space import BlockRule, GroupRule, LayerRule, SpaceSection
from paredown.search.space.found_ranks import FindRanks
from paredown.search.space.rank_rules import rank_domain
from paredown.search.space.rule_names import check_rank_errors, check_rule_names, check_settings
from paredown.search.space.scale_rules import group_sizes
from paredown.search.space.segment_rules import segment_choices, segment_tie
from paredown.search.space.sparsity_rules import sparsity_domain
from paredown.search.space.tied_knobs import SpaceError as SpaceError
from paredown.search.space.tied_knobs import check_untied, joined
from paredown.spaces.candidates.candidate import Method, SegmentChoice
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.candidates.drafting import onnx_type
from paredown.spaces.candidates.knobs import RankValue
from paredown.spaces.candidates.space import Architecture, Knob, KnobKind, Space
from paredown.spaces.structure.model_map import Layer, LeftOut, ModelMap, Segment

# Costs that depend on the width of a weight itself, not on the container it is stored in.
_COUNT_BITS = ("packed_bytes", "bops", "energy_ratio")
_LAYER_FIELDS = tuple(name for name in LayerRule.model_fields if name not in ("layers", "tie"))


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
        builder = _Builder(section, name, model_map, capabilities, frozenset(goals), find_ranks)
        architectures.append(
            Architecture(name=name, model_map=model_map, knobs=tuple(builder.knobs()))
        )
        for item in (*model_map.left_out, *builder.left_out):
            left_out.setdefault(f"{item.what}{item.reason}", item)
    space = Space(architectures=tuple(architectures), left_out=tuple(left_out.values()))
    if not space.dimensions():
        raise SpaceError(
            "space.rules must leave at least one choice open, got none for this model and these "
            "goals; add values to a rule, or a goal that they move"
        )
    return space


@dataclass
class _Builder:
    section: SpaceSection
    name: str
    model_map: ModelMap
    capabilities: Capabilities
    goals: frozenset[str]
    find_ranks: FindRanks | None
    left_out: list[LeftOut] = field(default_factory=list)

    def knobs(self) -> list[Knob]:
        found: list[Knob] = []
        found += self._layer_knobs()
        found += self._segment_knobs()
        found += self._width_knobs()
        found += self._drop_knobs()
        return found

    def _layer_knobs(self) -> list[Knob]:
        tied: dict[tuple[int, KnobKind], Knob] = {}
        loose: list[Knob] = []
        for layer in self.model_map.layers:
            domains, tie = self._layer_domains(layer)
            for kind, domain in domains.items():
                if tie is None:
                    name = f"{layer.name}:{kind}"
                    loose.append(Knob(name=name, kind=kind, targets=(layer.name,), domain=domain))
                else:
                    tied[tie, kind] = joined(tied.get((tie, kind)), tie, kind, layer.name, domain)
        return [*loose, *tied.values()]

    def _asked_of(self, layer: Layer) -> tuple[dict[str, Any], int | None]:
        """What the rules say of a layer, and the one that ties it."""
        values: dict[str, Any] = {}
        tie: int | None = None
        for index, rule in enumerate(self.section.rules):
            if isinstance(rule, LayerRule) and _matches(layer.name, rule.layers):
                fields = {name: getattr(rule, name) for name in _LAYER_FIELDS}
                values |= {name: value for name, value in fields.items() if value is not None}
                tie = index if rule.tie else (None if rule.tie is False else tie)
        return values, tie

    @functools.cached_property
    def _with_codes(self) -> frozenset[str]:
        """Layers that may have integer weights."""
        asked = {layer.name: self._asked_of(layer)[0] for layer in self.model_map.layers}
        return frozenset(
            name for name, v in asked.items() if min(v.get("weight_bits", (32,))) < 32
        )

    def _layer_domains(self, layer: Layer) -> tuple[dict[KnobKind, tuple[Any, ...]], int | None]:
        values, tie = self._asked_of(layer)
        domains: dict[KnobKind, tuple[Any, ...]] = {}
        if "weight_bits" in values:
            domains["weight_bits"] = self._bits(self._run_bits(layer, values["weight_bits"]))
        if "sparsity" in values:
            domains["sparsity"] = self._sparsities(values)
        if "rank_fraction" in values or "rank_error" in values:
            domains["rank_fraction"] = self._ranks(layer, values, tie)
        if "method" in values:
            # `Method` names them from the plainest to the best, and the best comes first.
            rank = get_args(Method).index
            domains["method"] = tuple(sorted(values["method"], key=rank, reverse=True))
        inside = self.model_map.segment_of_node[layer.node]
        segment = next(each for each in self.model_map.segments if each.name == inside)
        sizes, gone = group_sizes(layer, values, self._choices_of(segment))
        if sizes:
            domains["group_size"] = sizes
        for item in gone:
            self._leave_out(item.what, item.reason)
        return domains, tie

    def _run_bits(self, layer: Layer, asked: Sequence[int]) -> list[int]:
        """Widths that the device runs or at least stores, widest first."""
        can = self.capabilities.weight_bits
        runs = [bits for bits in sorted(asked, reverse=True) if bits in can]
        if not runs:
            raise SpaceError(
                f"weight_bits of layer {layer.name!r} must hold one that {self.capabilities.device} "
                f"runs, of {list(can)}, got {list(asked)}; add one to its rule"
            )
        gone = [str(bits) for bits in asked if bits not in runs]
        if gone:
            device = self.capabilities.device
            self._leave_out(f"weight bits {', '.join(gone)}", f"{device} does not run them")
        return runs

    def _ranks(
        self, layer: Layer, values: Mapping[str, Any], tie: int | None
    ) -> tuple[RankValue, ...]:
        """Ranks and forms that save weights and, where time counts, have full width."""
        step = values.get("rank_step") or (self.capabilities.rank_step if self._times else 1)
        by_error = None
        if "rank_error" in values:
            check_untied(tie, layer.name)
            assert self.find_ranks is not None
            by_error = partial(self.find_ranks, self.name, layer, values["rank_error"], step)
        return rank_domain(
            layer,
            values.get("rank_fraction", ()),
            values.get("decomposition", ("channel",)),
            step,
            self._leave_out,
            by_error,
        )

    @property
    def _times(self) -> bool:
        """Whether a latency is among the goals."""
        return any(goal.partition("@")[0] == "latency_s" for goal in self.goals)

    def _bits(self, bits: Sequence[int]) -> tuple[int, ...]:
        """Widths, widest first, without those that no goal tells from a wider one."""
        if self.goals & {*_COUNT_BITS}:
            return tuple(bits)
        kept: dict[tuple[str, ...], int] = {}
        for width in bits:
            kept.setdefault(tuple(onnx_type(width, s) for s in self._segment_choices()), width)
        gone = [str(width) for width in bits if width not in kept.values()]
        if gone:
            self._leave_out(
                f"weight bits {', '.join(gone)}",
                "stored like the next wider type in the ONNX file; they move only "
                f"{', '.join(_COUNT_BITS)}, none of which is a goal",
            )
        return tuple(kept.values())

    def _sparsities(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Shares and patterns of zeros that some goal feels."""
        fast = self.capabilities.fast_patterns if self._times else ()
        return sparsity_domain(
            values["sparsity"],
            values.get("pattern", ("element",)),
            lambda pattern: "packed_bytes" in self.goals or pattern in fast,
            lambda pattern: self._leave_out(
                f"sparsity ({pattern})",
                f"storage only on {self.capabilities.device}: it moves packed_bytes alone, which is "
                "no goal",
            ),
        )

    def _segment_choices(self) -> tuple[SegmentChoice, ...]:
        """Every way in which some segment may compute."""
        return tuple(
            dict.fromkeys(c for s in self.model_map.segments for c in self._choices_of(s))
        )

    def _choices_of(self, segment: Segment) -> tuple[SegmentChoice, ...]:
        return segment_choices(
            segment,
            self.model_map,
            self.section.rules,
            self.capabilities,
            self._with_codes,
            self._leave_out,
        )

    def _segment_knobs(self) -> list[Knob]:
        tied: dict[int, Knob] = {}
        loose: list[Knob] = []
        for segment in self.model_map.segments:
            domain = self._choices_of(segment)
            tie = segment_tie(segment, self.section.rules)
            if tie is None:
                name, only = f"{segment.name}:segment", (segment.name,)
                loose.append(Knob(name=name, kind="segment", targets=only, domain=domain))
            else:
                tied[tie] = joined(tied.get(tie), tie, "segment", segment.name, domain)
        return [*loose, *tied.values()]

    def _width_knobs(self) -> list[Knob]:
        knobs = []
        for group in self.model_map.groups:
            shares: tuple[float, ...] = ()
            step = self.capabilities.width_step
            for rule in self.section.rules:
                if isinstance(rule, GroupRule) and _matches(group.name, rule.groups):
                    shares = rule.width
                    step = rule.step or step
            asked = {round(share * group.channels) for share in shares}
            widths = {w for w in asked if w > 0 and w % step == 0} | {group.channels}
            for width in sorted(asked - widths):
                self._leave_out(
                    f"width {width} of {group.name}",
                    f"{self.capabilities.device} runs channels in multiples of {step}; a rule's "
                    "step overrides it",
                )
            if shares:
                domain = tuple(sorted(widths, reverse=True))
                name = f"{group.name}:width"
                knobs.append(Knob(name=name, kind="width", targets=(group.name,), domain=domain))
        return knobs

    def _drop_knobs(self) -> list[Knob]:
        knobs = []
        for block in self.model_map.blocks:
            rules = [r for r in self.section.rules if isinstance(r, BlockRule)]
            allowed = [r.drop for r in rules if _matches(block.name, r.blocks)]
            if allowed and allowed[-1]:
                name = f"{block.name}:drop"
                knobs.append(
                    Knob(name=name, kind="drop", targets=(block.name,), domain=(False, True))
                )
        return knobs

    def _leave_out(self, what: str, reason: str) -> None:
        item = LeftOut(what=what, reason=reason)
        if item not in self.left_out:
            self.left_out.append(item)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
