"""Two transformers of plain torch and rows that they answer themselves, for searches that narrow them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, ENTRIES, HIDDEN, TOKENS, CLASSES = 32, 4, 8, 64, 50, 6


class Attention(nn.Module):
    """Heads of queries, of which `HEADS // shared` read the same keys and values; turned by position."""

    def __init__(self, shared: int, turns: bool) -> None:
        super().__init__()
        self.shared, self.turns = shared, turns
        self.q, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, shared * ENTRIES, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (
            layer(x).view(b, t, -1, ENTRIES).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        if self.turns:
            q, k = turned(q), turned(k)
        k, v = (z.repeat_interleave(HEADS // self.shared, 1) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.o(y.transpose(1, 2).reshape(b, t, -1))


def turned(x: Tensor) -> Tensor:
    """Rotary positions: the first half of a head's entries with the second, by angles that grow."""
    rates = 100.0 ** -(torch.arange(ENTRIES // 2) / (ENTRIES // 2))
    angles = torch.outer(torch.arange(x.shape[2]), rates).repeat(1, 2)
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat((-second, first), -1) * angles.sin()


class Mlp(nn.Module):
    """Two layers, or a gated pair and one."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.gate = nn.Linear(WIDTH, HIDDEN) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        return self.down(F.gelu(up) if self.gate is None else F.silu(self.gate(x)) * up)


class Transformer(nn.Module):
    """Tokens (rows, time) to classes (rows, 6): one block of attention and MLP."""

    def __init__(self, like_llama: bool) -> None:
        super().__init__()
        norm = nn.RMSNorm if like_llama else nn.LayerNorm
        self.words = nn.Embedding(TOKENS, WIDTH)
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.attention = Attention(shared=2 if like_llama else HEADS, turns=like_llama)
        self.mlp = Mlp(gated=like_llama)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(1))


def make(like_llama: bool) -> nn.Module:
    """The network, always the same."""
    torch.manual_seed(3)
    return Transformer(like_llama).eval()


def splits(like_llama: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Rows of 9 tokens; their classes are what the network itself answers."""
    drawn = torch.Generator().manual_seed(4)
    counts = {"train": 64, "search": 128, "test": 128}
    rows = {name: torch.randint(TOKENS, (n, 9), generator=drawn) for name, n in counts.items()}
    network = make(like_llama)
    with torch.no_grad():
        return {name: (ids, network(ids).argmax(1)) for name, ids in rows.items()}
