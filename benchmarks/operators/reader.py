"""A small transformer that learns the next character of a text, for benchmarks of linear layers.

Two blocks of width 192 and contexts of 64 characters of `PAREDOWN_DATA/text/tinyshakespeare.txt`; a few
minutes of training.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, BLOCKS, CONTEXT, BATCH = 192, 4, 2, 64, 32


def read_arguments(description: str) -> argparse.Namespace:
    """What benchmarks on this transformer take, `description` being their own text."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1200, help="of training")
    parser.add_argument("--timing-only", action="store_true", help="the tables of times alone")
    return parser.parse_args()


class Block(nn.Module):
    """Causal attention and two linear layers, each behind a norm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.reshape(-1, CONTEXT, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(seen.transpose(1, 2).reshape(-1, CONTEXT, WIDTH))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Reader(nn.Module):
    """Logits (batch, time, characters) of the next character, for characters (batch, time)."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, WIDTH)
        self.places = nn.Parameter(torch.randn(CONTEXT, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.characters(ids) + self.places)))


def read_text() -> tuple[Tensor, Tensor, int]:
    """Characters to learn from, the last tenth of the text to test on, and how many kinds."""
    path = Path(os.environ["PAREDOWN_DATA"]) / "text" / "tinyshakespeare.txt"
    text = path.read_text(encoding="utf-8")
    kinds = sorted(set(text))
    ids = torch.tensor([kinds.index(character) for character in text])
    split = len(ids) * 9 // 10
    return ids[:split], ids[split:], len(kinds)


def batches(ids: Tensor, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Contexts (batch, time) at random places, and the characters that follow each position."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(CONTEXT + 1)
    for _ in range(count):
        starts = torch.randint(len(ids) - CONTEXT, (BATCH, 1), generator=generator)
        taken = ids[starts + steps]
        yield taken[:, :-1], taken[:, 1:]


def learn(ids: Tensor, kinds: int, steps: int) -> Reader:
    """The transformer after `steps` steps of AdamW."""
    torch.manual_seed(0)
    model = Reader(kinds)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for inputs, targets in batches(ids, steps, seed=1):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
        schedule.step()
    return model.eval()
