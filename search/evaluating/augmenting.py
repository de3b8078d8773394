"""Changes to the inputs of training batches that leave their meaning as it is.

The built-in ones are drawn row by row from one generator, so that a seed gives the same batches again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.search.tasks.user_code import UserCodeError, load_function

Augment = Callable[[tuple[Tensor, ...], torch.Generator], tuple[Tensor, ...]]
"""(inputs of a batch, generator) -> changed inputs of the same shapes and types."""

_SHIFT = 8
"""Images are shifted by at most an eighth of their size: 4 of 32 pixels."""
_MASKED = 8
"""Masks of spectrograms take at most an eighth of the steps, and as much of the bands."""
_TOKEN_SHARE = 0.1


def flips_and_crops(inputs: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Images (batch, channels, height, width) mirrored at random and shifted, the rest zero.

    Of several inputs all images are changed alike.
    """
    return _by_kind(inputs, 4, generator, _crop)


def masks(inputs: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Sequences (batch, steps, bands) without a run of steps and a run of bands (SpecAugment).

    Park et al. 2019, arXiv:1904.08779; what is masked is zero.
    """
    return _by_kind(inputs, 3, generator, _mask)


def tokens(inputs: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Token numbers (batch, steps), one in ten replaced by a token of the same batch."""
    first, *others = inputs
    count = first.numel()
    drawn = first.flatten()[torch.randint(count, (count,), generator=generator)].view_as(first)
    chosen = (torch.rand(first.shape, generator=generator) < _TOKEN_SHARE).to(first.device)
    # Row for row what stands at the end may be padding, and the first token may be the sentence's own.
    chosen &= (first != first[:, -1:]) & (first != first[:, :1])
    return torch.where(chosen, drawn, first), *others


AUGMENTATIONS: Mapping[str, Augment] = {
    "flips_and_crops": flips_and_crops,
    "masks": masks,
    "tokens": tokens,
}


_MADE_FOR: Mapping[str, tuple[int, bool, str]] = {
    "flips_and_crops": (4, True, "images"),
    "masks": (3, True, "spectrograms"),
    "tokens": (2, False, "token numbers"),
}
"""Dimensions of what the built-in ones change, whether it is real numbers, and its name."""


def augmentation(name: str | None, code_folder: Path) -> Augment | None:
    """The augmentation of that name, or a user's own function by its import path; None for None.

    Raises:
        UserCodeError: The function cannot be imported.
    """
    if name is None:
        return None
    if name in AUGMENTATIONS:
        return AUGMENTATIONS[name]
    return cast("Augment", load_function("recovery.recipe.augment", name, code_folder))


def check_augmentation(augment: Augment, name: str, inputs: tuple[Tensor, ...]) -> None:
    """Tries an augmentation on some rows before anything is trained.

    Raises:
        UserCodeError: It raises, gives other shapes or types, or is built in and made for other inputs.
    """
    what = f"recovery.recipe.augment: {name!r}"
    forms = [(x.shape, x.dtype) for x in inputs]
    shown = ", ".join(f"{tuple(shape)} {dtype}" for shape, dtype in forms)
    if name in _MADE_FOR:
        ndim, is_real, text = _MADE_FOR[name]
        # Tokens are the first input; images and spectrograms may be any.
        looked_at = inputs if is_real else inputs[:1]
        if not any(x.ndim == ndim and x.is_floating_point() == is_real for x in looked_at):
            raise UserCodeError(
                f"{what} must be given {text}, of {ndim} dimensions, got inputs {shown}; take "
                "another, or none"
            )
    try:
        found = augment(inputs, torch.Generator().manual_seed(0))
    except Exception as error:  # a user's own function
        raise UserCodeError(
            f"{what} must change inputs {shown}, raised {type(error).__name__}: {error}"
        ) from error
    if [(x.shape, x.dtype) for x in found] != forms:
        got = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in found)
        raise UserCodeError(f"{what} must keep shapes and types, got {got} of {shown}")


def _by_kind(
    inputs: tuple[Tensor, ...],
    ndim: int,
    generator: torch.Generator,
    change: Callable[[Tensor, torch.Generator], Tensor],
) -> tuple[Tensor, ...]:
    state = generator.get_state()
    found = []
    for x in inputs:
        if x.ndim == ndim and x.is_floating_point():
            generator.set_state(state)
            x = change(x, generator)
        found.append(x)
    return tuple(found)


def _crop(x: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = x.shape
    room = (max(1, height // _SHIFT), max(1, width // _SHIFT))
    padded = F.pad(x, (room[1], room[1], room[0], room[0]))
    top, left = (torch.randint(2 * r + 1, (count,), generator=generator) for r in room)
    is_mirrored = torch.rand(count, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(is_mirrored[:, None], columns.flip(1), columns)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _mask(x: Tensor, generator: torch.Generator) -> Tensor:
    keeps = torch.ones(x.shape, dtype=torch.bool)
    for dim in (1, 2):
        size = x.shape[dim]
        length = torch.randint(size // _MASKED + 1, (len(x), 1), generator=generator)
        start = (torch.rand(len(x), 1, generator=generator) * (size - length)).long()
        place = torch.arange(size)
        run = (place >= start) & (place < start + length)
        keeps &= ~run.unsqueeze(3 - dim)
    return x * keeps.to(x.device)
