"""Knobs that several parts share because a rule ties them."""

from __future__ import annotations

from typing import Any

from paredown.spaces.knobs import Knob, KnobKind


class SpaceError(ValueError):
    """The rules leave nothing to search."""


def joined(
    knob: Knob | None, tie: int, kind: KnobKind, target: str, domain: tuple[Any, ...]
) -> Knob:
    """A shared knob with one more target; only values that all targets allow stay.

    Args:
        knob: What the targets before it share, None for the first.
        tie: Position of the rule that ties them.

    Raises:
        SpaceError: No value is left.
    """
    if knob is None:
        return Knob(name=f"rule{tie}:{kind}", kind=kind, targets=(target,), domain=domain)
    shared = tuple(value for value in knob.domain if value in domain)
    if not shared:
        raise SpaceError(
            f"space.rules[{tie}].tie: the tied targets must share a value of {kind}, got "
            f"{knob.domain} and {domain} for {target!r}; give them a common one"
        )
    return Knob(name=knob.name, kind=kind, targets=(*knob.targets, target), domain=shared)
