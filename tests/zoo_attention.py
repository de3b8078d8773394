"""A BERT written by hand: padding masked by sums with -1e4 or -inf, norms behind the residuals."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, TOKENS = 32, 2, 6


class EncoderBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(x.shape[0], TOKENS, HEADS, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5 + mask
        seen = torch.softmax(scores, -1) @ v
        x = self.norm1(x + self.proj(seen.transpose(1, 2).reshape(x.shape[0], TOKENS, WIDTH)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """Sentences of 6 ids and a row of 1 for tokens, 0 for padding, to 5 classes."""

    def __init__(self, unseen: float = -10_000.0) -> None:
        super().__init__()
        self.unseen = unseen
        self.word = nn.Embedding(50, WIDTH)
        self.register_buffer("position", torch.randn(16, WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(EncoderBlock() for _ in range(2))
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        real_keys = real[:, None, None, :]
        is_infinite = self.unseen == -float("inf")
        mask = real_keys.log() if is_infinite else (1 - real_keys) * self.unseen
        x = self.norm(self.word(ids) + self.position[:TOKENS])
        for layer in self.layers:
            x = layer(x, mask)
        seen = real[:, :, None]
        return self.head((x * seen).sum(1) / seen.sum(1))
