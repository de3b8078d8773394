"""Which ranks and forms of a layer are worth a choice: those that hold fewer weights than it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from paredown.compressors.low_rank.rank_by_error import Found
from paredown.spaces.candidates.factors import (
    Chain,
    factor_chain,
    form_of,
    full_ranks,
    is_factorizable,
    weight_count,
)
from paredown.spaces.candidates.ranks import WHOLE, Decomposition, Rank
from paredown.spaces.structure.model_map import Layer

LeaveOut = Callable[[str, str], None]
"""Takes what is left out, and why."""

ByError = Callable[[Decomposition], Mapping[float, Found | None]]
"""The thinnest ranks of a form by the errors that rules allow; None where none saves weights."""


def rank_domain(
    layer: Layer,
    shares: Sequence[float],
    forms: Sequence[Decomposition],
    step: int,
    leave_out: LeaveOut,
    by_error: ByError | None = None,
) -> tuple[Rank, ...]:
    """Values of the layer's rank knob, most weights first.

    An error that no form keeps with fewer weights is kept by the whole layer, which is then a value too.

    Args:
        shares: Of the full rank, as the rules offer them; 1 leaves the layer whole.
        forms: As the rules offer them; where the kernel leaves no other form, "channel" is taken.
        step: Every rank must be a multiple of it.
        leave_out: Takes forms that save nothing at any share or error, and ranks off the step.
        by_error: Ranks in multiples of the step; None where no rule says what may be lost.
    """
    kept = {WHOLE: layer.weight_count} if 1 in shares else {}
    lower = sorted((share for share in shares if share < 1), reverse=True)
    offered = list(dict.fromkeys(form_of(layer, each) for each in forms))
    for form in offered:
        chains = {s: factor_chain(layer, layer.weight_shape, Rank(s, form)) for s in lower}
        chains = {share: chain for share, chain in chains.items() if len(chain) > 1}
        if lower and not chains and is_factorizable(layer):
            reason = "at none of its rank_fractions does it hold fewer weights than the layer"
            leave_out(_unsaving(layer, form), reason)
        for share, chain in chains.items():
            if off := [rank for rank in _ranks(chain) if rank % step]:
                reason = f"ranks come in multiples of {step}; a rule's rank_step overrides it"
                leave_out(f"rank {off[0]} of {layer.name}", reason)
            else:
                kept[Rank(share, form)] = weight_count(chain)
    if by_error is not None:
        known = {factor_chain(layer, layer.weight_shape, value) for value in kept}
        for value, count in _with_errors(layer, offered, by_error, step, leave_out).items():
            if factor_chain(layer, layer.weight_shape, value) not in known:
                kept[value] = count
    return tuple(sorted(kept, key=kept.__getitem__, reverse=True)) or (WHOLE,)


def _unsaving(layer: Layer, form: Decomposition) -> str:
    """A form that is left out; the one form of many alike is named once for their shape."""
    if form != "channel":
        return f"decomposition {form} of {layer.name}"
    shape = " x ".join(map(str, layer.weight_shape))
    return f"decomposition channel of {layer.kind} layers of {shape}"


def _with_errors(
    layer: Layer,
    forms: Sequence[Decomposition],
    by_error: ByError,
    step: int,
    leave_out: LeaveOut,
) -> dict[Rank, int]:
    """Values of the ranks that keep the errors, and the weights of each."""
    if not is_factorizable(layer):
        reason = "only linear layers and ungrouped 2-d convolutions have a low rank"
        grouped = "grouped " if layer.groups > 1 else ""
        leave_out(f"rank_error of {grouped}{layer.kind} layers", reason)
        return {WHOLE: layer.weight_count}
    kept: dict[Rank, int] = {}
    missed: list[set[float]] = []
    for form in forms:
        found = by_error(form)
        missed.append({error for error, each in found.items() if each is None})
        if missed[-1]:
            errors = ", ".join(f"{error:g}" for error in sorted(missed[-1]))
            ranks = "it" if step == 1 else f"it, with ranks in multiples of {step},"
            reason = f"at an error of {errors} {ranks} would hold no fewer weights than the layer"
            leave_out(f"decomposition {form} of {layer.name}", reason)
        for each in found.values():
            if each is not None:
                value = value_of(layer, form, each.ranks)
                kept[value] = weight_count(factor_chain(layer, layer.weight_shape, value))
    if set.intersection(*missed):
        kept[WHOLE] = layer.weight_count
    return kept


def value_of(layer: Layer, form: Decomposition, ranks: Sequence[int]) -> Rank:
    """The rank knob's value that gives exactly these ranks at the layer's full width."""
    fulls = full_ranks(form, layer.weight_shape)
    share, *second = (rank / full for rank, full in zip(ranks, fulls, strict=True))
    value = Rank(share, form)
    chain = factor_chain(layer, layer.weight_shape, value)
    if second and _ranks(chain) != list(ranks):
        return Rank(share, form, second[0])
    return value


def _ranks(chain: Chain) -> list[int]:
    """Channels between the operators."""
    return [link.shape[0] for link in chain[:-1]]
