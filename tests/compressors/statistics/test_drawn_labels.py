"""Labels drawn from a network's own answers, and the loss that goes with them."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from paredown.compressors.statistics.drawn_labels import draw_labels, summed_cross_entropy


def test_drawn_labels_follow_the_softmax_and_the_seed() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(20000, 3)
    drawn = draw_labels((logits,), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / 20000
    assert torch.allclose(shares, torch.tensor([0.1, 0.6, 0.3]), atol=0.015)
    again = draw_labels((logits,), torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    pixels = torch.zeros(2, 3, 4, 5)
    pair = draw_labels((pixels, pixels), torch.Generator())
    assert [tuple(labels.shape) for labels in pair] == [(2, 4, 5), (2, 4, 5)]


def test_the_loss_of_many_pixels_is_scaled_for_the_fisher() -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.int64)
    expected = F.cross_entropy(logits, labels, reduction="sum") / 20**0.5
    assert torch.allclose(summed_cross_entropy((logits,), labels), expected)
