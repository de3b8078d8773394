"""Keyword spotting on Speech Commands: LSTMs, a GRU written by hand and a depthwise-separable CNN.

"Hello Edge" (Zhang et al. 2017, arXiv:1711.07128) on 49 frames of 10 cepstral coefficients, 12 labels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

Rows = tuple[Tensor, Tensor]
UNKNOWN = 1  # the label of every word that is no keyword


class LSTM(nn.Module):
    """One LSTM layer, and a classifier of its last output."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 12)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (batch, 12) of frames (batch, 49, 10)."""
        return self.out(self.lstm(frames)[0][:, -1])


class GRU(nn.Module):
    """TensorFlow's GRU step by step: unlike torch's, it resets the state before the matrix."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Linear(10 + hidden, 2 * hidden)
        self.candidate = nn.Linear(10 + hidden, hidden)
        self.out = nn.Linear(hidden, 12)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (batch, 12) of frames (batch, 49, 10)."""
        state = frames.new_zeros(frames.shape[0], self.hidden)
        for step in range(frames.shape[1]):
            frame = frames[:, step]
            gates = torch.sigmoid(self.gates(torch.cat([frame, state], 1)))
            reset, update = gates.chunk(2, 1)
            candidate = torch.tanh(self.candidate(torch.cat([frame, reset * state], 1)))
            state = update * state + (1 - update) * candidate
        return self.out(state)


class SeparableBlock(nn.Module):
    """A depthwise and a pointwise convolution, each with its norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels, eps=1e-3)
        self.pw = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) of the same shape."""
        return self.bn2(self.pw(self.bn1(self.dw(x)).relu())).relu()


class SeparableCNN(nn.Module):
    """A convolution, four separable blocks, the mean of each map, and a classifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, channels, (10, 4), 2)
        self.bn0 = nn.BatchNorm2d(channels, eps=1e-3)
        self.blocks = nn.Sequential(*[SeparableBlock(channels) for _ in range(4)])
        self.out = nn.Linear(channels, 12)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (batch, 12) of frames (batch, 49, 10)."""
        x = functional.pad(frames[:, None], (1, 1, 4, 5))
        x = self.blocks(self.bn0(self.conv0(x)).relu())
        return self.out(x.mean((2, 3)))


KINDS: dict[str, type[LSTM | GRU | SeparableCNN]] = {
    "lstm": LSTM,
    "gru": GRU,
    "dscnn": SeparableCNN,
}


def model(folder: str, name: str) -> nn.Module:
    """The trained network `name`: lstm_S, lstm_M, gru_M or dscnn_S."""
    weights = load_file(Path(folder) / f"{name}.safetensors")
    network = KINDS[name.split("_")[0]](weights["out.weight"].shape[1])
    # The files have no counters of batches seen, which only training reads.
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return network


def splits(folder: str) -> dict[str, Rows]:
    """Every second clip to search on, the others to solve layers for, all 300 for the final figures.

    Layers solved for the clips that are searched on look better there than they are. Among so few clips
    one point is three of them; the networks were trained on 205 of the 300.
    """
    stored = np.load(Path(folder) / "data.npz")
    words = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
    labels = words["labels"]
    label_of = torch.tensor(
        [labels.index(word) if word in labels else UNKNOWN for word in words["words"]]
    )
    clips = torch.from_numpy(stored["mfcc"])
    targets = label_of[torch.from_numpy(stored["word"].astype("int64"))]
    return {
        "train": (clips[1::2], targets[1::2]),
        "search": (clips[::2], targets[::2]),
        "test": (clips, targets),
    }


def halves(folder: str) -> dict[str, Rows]:
    """Every second clip for the final figures, the others to train on: no clip is both."""
    parts = splits(folder)
    return {"train": parts["train"], "search": parts["search"], "test": parts["search"]}
