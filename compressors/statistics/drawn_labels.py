"""Labels drawn from a network's own answers, and the loss that gives the true Fisher matrix with them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Target = Tensor | tuple[Tensor, ...]
"""What a loss is given beside the outputs, as the user's data holds it."""


def draw_labels(outputs: tuple[Tensor, ...], generator: torch.Generator) -> Target:
    """Class numbers drawn from the softmax over dimension 1 of each output.

    A tensor (N, ...) for one output, a tuple of them for several.
    """
    with torch.no_grad():
        labels = tuple(_draw(output, generator) for output in outputs)
    return labels[0] if len(labels) == 1 else labels


def summed_cross_entropy(outputs: tuple[Tensor, ...], labels: Target) -> Tensor:
    """Cross entropy summed over samples and outputs, for Fisher gradients of a mean over pixels.

    Classes are on dimension 1. With P labels per sample the loss of a sample is their mean, but
    independent draws add up in the Fisher: the factor is 1 / sqrt(P), so that E[g g^T] is its
    Hessian.
    """
    targets = labels if isinstance(labels, tuple) else (labels,)
    total = outputs[0].new_zeros(())
    for output, target in zip(outputs, targets, strict=True):
        factor = target[0].numel() ** -0.5
        total = total + factor * F.cross_entropy(output, target, reduction="sum")
    return total


def _draw(output: Tensor, generator: torch.Generator) -> Tensor:
    last = output.softmax(dim=1).movedim(1, -1)
    drawn = torch.multinomial(last.reshape(-1, last.shape[-1]).cpu(), 1, generator=generator)
    return drawn.view(last.shape[:-1]).to(output.device)
