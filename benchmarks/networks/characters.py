"""A character LSTM trained on Shakespeare: searched on Hamlet, tested on Macbeth, in bits a character."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

Rows = tuple[Tensor, Tensor]
WINDOW = 120  # characters read at a time
UNSCORED = 20  # of these, so that the state is warm: it starts at zero in every window
IGNORED = -100


class CharacterLSTM(nn.Module):
    """Embedding, stacked LSTM, and logits of the next character."""

    def __init__(self, characters: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, hidden)
        self.lstm = nn.LSTM(hidden, hidden, 2, batch_first=True)
        self.out = nn.Linear(hidden, characters)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, time, characters) of ids (batch, time)."""
        return self.out(self.lstm(self.embedding(ids))[0])


def model(folder: str) -> nn.Module:
    """The trained network."""
    weights = load_file(Path(folder) / "model.safetensors")
    network = CharacterLSTM(*weights["embedding.weight"].shape)
    network.load_state_dict(weights)
    return network


def splits(folder: str) -> dict[str, Rows]:
    """Windows of the training text for statistics, of Hamlet to search on, of Macbeth for the end."""
    texts = np.load(Path(folder) / "data.npz")
    return {
        "train": _windows(texts["train_text"]),
        "search": _windows(texts["hamlet"]),
        "test": _windows(texts["macbeth"]),
    }


def bits_per_character(outputs: Tensor, targets: Tensor) -> float:
    """Mean cross-entropy of the next character in bits, over those that are scored."""
    return float(nats_per_character(outputs, targets)) / math.log(2)


def nats_per_character(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same in nats, with a gradient."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def _windows(text: np.ndarray) -> Rows:
    """Windows that overlap by the characters left unscored: every other one is scored once."""
    ids = torch.from_numpy(text.astype("int64"))
    pairs = ids.unfold(0, WINDOW + 1, WINDOW - UNSCORED)
    following = pairs[:, 1:].clone()
    following[:, :UNSCORED] = IGNORED
    return pairs[:, :-1].clone(), following
