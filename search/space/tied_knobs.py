"""Knobs that several parts share because a rule ties them."""

from __future__ import annotations

from typing import Any

from paredown.spaces.candidates.knobs import Knob, KnobKind
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
