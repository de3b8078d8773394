"""Which ranks and forms of a layer are worth a choice: those that hold fewer weights than it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paredown.spaces.candidate import Decomposition
from paredown.spaces.factors import Chain, factor_chain, form_of, weight_count
from paredown.spaces.model_map import Layer

WHOLE: tuple[float, Decomposition] = (1.0, "channel")

LeaveOut = Callable[[str, str], None]
"""Takes what is left out, and why."""


def rank_domain(
    layer: Layer,
    shares: Sequence[float],
    forms: Sequence[Decomposition],
    step: int,
    leave_out: LeaveOut,
) -> tuple[tuple[float, Decomposition], ...]:
    """Values of the layer's rank knob, most weights first.

    Args:
        shares: Of the full rank, as the rules offer them; 1 leaves the layer whole.
        forms: As the rules offer them; where the kernel leaves no other form, "channel" is taken.
        step: Every rank must be a multiple of it.
        leave_out: Told of forms that save nothing at any share, and of ranks off the step.
    """
    kept = {WHOLE: layer.weight_count} if 1 in shares else {}
    lower = sorted((share for share in shares if share < 1), reverse=True)
    for form in dict.fromkeys(form_of(layer, each) for each in forms):
        chains = {s: factor_chain(layer, layer.weight_shape, s, form) for s in lower}
        chains = {share: chain for share, chain in chains.items() if len(chain) > 1}
        if form != "channel" and lower and not chains:
            reason = "at none of its rank_fractions does it hold fewer weights than the layer"
            leave_out(f"decomposition {form} of {layer.name}", reason)
        for share, chain in chains.items():
            if off := [rank for rank in _ranks(chain) if rank % step]:
                reason = f"ranks come in multiples of {step}; a rule's rank_step overrides it"
                leave_out(f"rank {off[0]} of {layer.name}", reason)
            else:
                kept[share, form] = weight_count(chain)
    return tuple(sorted(kept, key=kept.__getitem__, reverse=True)) or (WHOLE,)


def _ranks(chain: Chain) -> list[int]:
    """Channels between the operators."""
    return [link.shape[0] for link in chain[:-1]]
