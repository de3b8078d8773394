"""Knobs that several parts share because a rule ties them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from paredown.spaces.knobs.knob import Knob, ValueT
from paredown.spaces.system.errors import ParedownError


class SpaceError(ParedownError):
    """The rules leave nothing to search."""


def check_untied(tie: int | None, layer: str) -> None:
    """Refuses a rule that ties a layer with `rank_error`, which finds ranks for each layer alone.

    Args:
        tie: Position of the rule that ties the layer; None where none does.

    Raises:
        SpaceError: It is tied.
    """
    if tie is not None:
        raise SpaceError(
            f"space.rules[{tie}].tie: tied layers share one choice, got layer {layer!r} with "
            "rank_error, which gives each its own ranks; take rank_fraction, or do not tie them"
        )


def tied(knobs: Iterable[tuple[int | None, Knob]]) -> list[Knob]:
    """The knobs that decide alone, then those that parts share, each where its first part stands.

    Args:
        knobs: One for each part, with the position of the rule that ties it, None where none does.

    Raises:
        SpaceError: Tied parts have no value in common.
    """
    alone: list[Knob] = []
    shared: dict[tuple[int, str], Knob] = {}
    for tie, knob in knobs:
        if tie is None:
            alone.append(knob)
        elif (tie, knob.kind) in shared:
            shared[tie, knob.kind] = _joined(shared[tie, knob.kind], tie, knob)
        else:
            shared[tie, knob.kind] = replace(knob, name=f"rule{tie}:{knob.kind}")
    return [*alone, *shared.values()]


def _joined(knob: Knob[ValueT], tie: int, other: Knob[ValueT]) -> Knob[ValueT]:
    """`knob` with the targets of `other`; only values that both offer stay."""
    domain = tuple(value for value in knob.domain if value in other.domain)
    if not domain:
        first, second = (", ".join(map(each.text, each.domain)) for each in (knob, other))
        raise SpaceError(
            f"space.rules[{tie}].tie: the tied targets must share a value of {knob.kind}, got "
            f"{first} and {second} for {other.targets[0]!r}; give them a common one"
        )
    return replace(knob, targets=(*knob.targets, *other.targets), domain=domain)
