"""MiniLM-L6, a transformer encoder of sentences, with a classifier of Banking77's intents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

Queries = tuple[dict[str, Tensor], Tensor]
LAYERS = 6
_LAYER_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}


class Layer(nn.Module):
    """Attention, then an MLP, each added to its input and normed."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.proj = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps (batch, time, width); the mask (batch, 1, 1, time) is true at real tokens."""
        batch, time, width = x.shape
        query, key, value = (
            layer(x).view(batch, time, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.proj(mixed.transpose(1, 2).reshape(batch, time, width)))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class MiniLM(nn.Module):
    """Embeddings, encoder, the mean of the real tokens at unit length, and a linear classifier."""

    def __init__(self, tokens: int, positions: int, classes: int, width: int = 384) -> None:
        super().__init__()
        self.word = nn.Embedding(tokens, width)
        self.position = nn.Embedding(positions, width)
        self.segment = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, 12, 4 * width) for _ in range(LAYERS))
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits (batch, classes) of ids (batch, time) and the mask of real tokens (batch, time)."""
        x = self.word(ids) + self.position.weight[: ids.shape[1]] + self.segment.weight[0]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        real = mask[..., None].to(x.dtype)
        mean = (x * real).sum(1) / real.sum(1)
        return self.head(functional.normalize(mean, dim=1))


def model(folder: str) -> nn.Module:
    """The trained encoder under its classifier; stored in 16 bits, computed in 32."""
    stored = load_file(Path(folder) / "model.safetensors")
    weights = {name: tensor.float() for name, tensor in stored.items()}
    head = load_file(Path(folder) / "head.safetensors")
    words, positions, segments = (
        weights[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    )
    state = {"word.weight": words, "position.weight": positions, "segment.weight": segments}
    renamed = {"norm": "embeddings.LayerNorm"}
    for i in range(LAYERS):
        for ours, theirs in _LAYER_NAMES.items():
            renamed[f"layers.{i}.{ours}"] = f"encoder.layer.{i}.{theirs}"
    for ours, theirs in renamed.items():
        for kind in ("weight", "bias"):
            state[f"{ours}.{kind}"] = weights[f"{theirs}.{kind}"]
    network = MiniLM(len(words), len(positions), len(head["head.weight"]))
    network.load_state_dict(state | head)
    return network


def splits(folder: str, time: int) -> dict[str, Queries]:
    """Banking77: training queries for statistics, half of the test to search on, half for the end."""
    train = _queries(folder, "bank_train", time)
    inputs, targets = _queries(folder, "bank_test", time)
    halves = {
        name: ({key: rows[start::2] for key, rows in inputs.items()}, targets[start::2])
        for start, name in enumerate(("search", "test"))
    }
    return {"train": train, **halves}


def final_splits(folder: str, time: int) -> dict[str, Queries]:
    """The same with all test queries for the end, where no search ranks by any of them."""
    final = _queries(folder, "bank_test", time)
    return {"train": _queries(folder, "bank_train", time), "search": final, "test": final}


def _queries(folder: str, name: str, time: int) -> Queries:
    """Queries cut or padded to `time` tokens, and their intents."""
    stored = np.load(Path(folder) / "data.npz")
    tokens = torch.from_numpy(stored[f"{name}_ids"].astype("int64"))
    lengths = np.diff(stored[f"{name}_off"])
    ids = nn.utils.rnn.pad_sequence(list(tokens.split(lengths.tolist())), batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.from_numpy(lengths)[:, None]
    rows = {"ids": ids[:, :time].contiguous(), "mask": mask[:, :time].contiguous()}
    return rows, torch.from_numpy(stored[f"{name}_label"].astype("int64"))
