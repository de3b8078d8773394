"""The knobs that rules open for a layer's weights: one function for each kind, in `LAYER_KNOBS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from paredown.search.config.schema_space import LayerRule
from paredown.search.space.rank_rules import rank_domain
from paredown.search.space.scale_rules import group_sizes
from paredown.search.space.scope import Scope, layer_rule, tie_of
from paredown.search.space.segment_rules import all_choices, choices_of
from paredown.search.space.sparsity_rules import sparsity_domain
from paredown.search.space.tied_knobs import SpaceError, check_untied
from paredown.spaces.candidates.candidate import METHODS_WITH_ZERO, Method
from paredown.spaces.candidates.drafting import onnx_type
from paredown.spaces.knobs.knob import Knob, LayerKnob
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.scale_group import GroupSizeKnob
from paredown.spaces.knobs.sparsity import SparsityKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.structure.model_map import Layer

# Costs that depend on the width of a weight itself, not on the container it is stored in.
_COUNT_BITS = ("packed_bytes", "bops", "energy_ratio")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One layer, and all that rules say of it; `tie` is the position of the rule that ties it."""

    layer: Layer
    rule: LayerRule
    tie: int | None
    scope: Scope

    def name_of(self, kind: type[LayerKnob]) -> str:
        """The name of the layer's own knob of this kind."""
        return f"{self.layer.name}:{kind.kind}"


def layer_knobs(scope: Scope) -> Iterator[tuple[int | None, Knob]]:
    """Every knob of every layer, with the rule that ties it."""
    for layer in scope.model_map.layers:
        tie = tie_of(scope.rules, layer.name, LayerRule)
        asked = Asked(layer=layer, rule=layer_rule(scope.rules, layer.name), tie=tie, scope=scope)
        drawn = (draw(asked) for draw in LAYER_KNOBS)
        yield from ((tie, knob) for knob in drawn if knob is not None)


def _weight_bits(asked: Asked) -> WeightBitsKnob | None:
    if asked.rule.weight_bits is None:
        return None
    _check_one_bit(asked.layer.name, asked.rule)
    domain = _felt_bits(asked.scope, _run_bits(asked, asked.rule.weight_bits))
    name = asked.name_of(WeightBitsKnob)
    return WeightBitsKnob(name=name, targets=(asked.layer.name,), domain=domain)


def _check_one_bit(layer: str, rule: LayerRule) -> None:
    """Refuses what needs a code 0 beside 1-bit weights, which have none: zeros in any case, methods."""
    if 1 not in (rule.weight_bits or ()):
        return
    if rule.sparsity and 0.0 not in rule.sparsity:
        raise SpaceError(
            f"sparsity of layer {layer!r} must hold 0 beside weight_bits 1, whose codes have no zero, "
            f"got {list(rule.sparsity)}; add 0, or take 1 out of weight_bits"
        )
    unfit = [method for method in rule.method or () if method in METHODS_WITH_ZERO]
    if unfit:
        raise SpaceError(
            f"method of layer {layer!r} must not be {', '.join(METHODS_WITH_ZERO)} beside weight_bits "
            f"1, whose codes have no zero, got {', '.join(unfit)}; take it out of method, or 1 out of "
            "weight_bits"
        )


def _run_bits(asked: Asked, widths: Sequence[int]) -> list[int]:
    """Widths that the device runs or at least stores, widest first."""
    offered = asked.scope.offered
    runs = [bits for bits in sorted(widths, reverse=True) if bits in offered.weight_bits]
    if not runs:
        raise SpaceError(
            f"weight_bits of layer {asked.layer.name!r} must hold one that {offered.device} "
            f"runs, of {list(offered.weight_bits)}, got {list(widths)}; add one to its rule"
        )
    gone = [str(bits) for bits in widths if bits not in runs]
    if gone:
        what = f"weight bits {', '.join(gone)}"
        asked.scope.leave_out(what, f"{offered.device} does not run them")
    return runs


def _felt_bits(scope: Scope, bits: Sequence[int]) -> tuple[int, ...]:
    """Widths, widest first, without those that no goal distinguishes from a wider one."""
    if scope.goals & {*_COUNT_BITS}:
        return tuple(bits)
    kept: dict[tuple[str, ...], int] = {}
    for width in bits:
        kept.setdefault(tuple(onnx_type(width, each) for each in all_choices(scope)), width)
    gone = [str(width) for width in bits if width not in kept.values()]
    if gone:
        scope.leave_out(
            f"weight bits {', '.join(gone)}",
            "stored like the next wider type in the ONNX file; they move only "
            f"{', '.join(_COUNT_BITS)}, none of which is a goal",
        )
    return tuple(kept.values())


def _sparsity(asked: Asked) -> SparsityKnob | None:
    rule, scope = asked.rule, asked.scope
    if rule.sparsity is None:
        return None
    if rule.weight_bits == (1,):
        scope.leave_out(f"sparsity of {asked.layer.name}", "its 1-bit codes have no zero")
        return None
    fast = scope.offered.fast_patterns if scope.is_timed else ()
    domain = sparsity_domain(
        rule.sparsity,
        rule.pattern or ("element",),
        lambda pattern: "packed_bytes" in scope.goals or pattern in fast,
        lambda pattern: scope.leave_out(
            f"sparsity ({pattern})",
            f"storage only on {scope.offered.device}: it moves packed_bytes alone, which is "
            "no goal",
        ),
    )
    name = asked.name_of(SparsityKnob)
    return SparsityKnob(name=name, targets=(asked.layer.name,), domain=domain)


def _rank(asked: Asked) -> RankKnob | None:
    """Ranks and forms that save weights and, where time counts, have full width."""
    rule, layer, scope = asked.rule, asked.layer, asked.scope
    if rule.rank_fraction is None and rule.rank_error is None:
        return None
    step = rule.rank_step or (scope.offered.rank_step if scope.is_timed else 1)
    by_error = None
    if rule.rank_error is not None:
        check_untied(asked.tie, layer.name)
        assert scope.find_ranks is not None
        by_error = partial(scope.find_ranks, scope.architecture, layer, rule.rank_error, step)
    domain = rank_domain(
        layer,
        rule.rank_fraction or (),
        rule.decomposition or ("channel",),
        step,
        scope.leave_out,
        by_error,
    )
    return RankKnob(name=asked.name_of(RankKnob), targets=(layer.name,), domain=domain)


def _method(asked: Asked) -> MethodKnob | None:
    if asked.rule.method is None:
        return None
    # `Method` names them from the plainest to the best, and the best comes first.
    rank = get_args(Method).index
    domain = tuple(sorted(asked.rule.method, key=rank, reverse=True))
    return MethodKnob(name=asked.name_of(MethodKnob), targets=(asked.layer.name,), domain=domain)


def _group_size(asked: Asked) -> GroupSizeKnob | None:
    scope, layer = asked.scope, asked.layer
    inside = scope.model_map.segment_of_node[layer.node]
    segment = next(each for each in scope.model_map.segments if each.name == inside)
    sizes, gone = group_sizes(layer, asked.rule, choices_of(segment, scope))
    for item in gone:
        scope.leave_out(item.what, item.reason)
    if not sizes:
        return None
    return GroupSizeKnob(name=asked.name_of(GroupSizeKnob), targets=(layer.name,), domain=sizes)


LAYER_KNOBS: tuple[Callable[[Asked], LayerKnob | None], ...] = (
    _weight_bits,
    _sparsity,
    _rank,
    _method,
    _group_size,
)
"""What opens each kind of knob of layers, in the order of their parameters; None where no rule asks."""
