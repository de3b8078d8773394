"""A super-resolution generator (waifu2x upconv_7, photographs, twice the size), by its PSNR."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

Rows = tuple[Tensor, Tensor]
TILE = 72  # pixels of the small picture that are enlarged at a time, in both directions
APART = 100  # pixels from one tile to the next: a sample of each picture
BORDER = 7  # pixels that a convolution's reach makes wrong at the edge of a tile
SEARCHED = ("astronaut", "coffee", "ihc")


class UpConv7(nn.Module):
    """Six convolutions and a transposed one that doubles the size."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 16, 32, 64, 128, 128, 256)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, 3), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 3, 4, 2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Enlarges (batch, 3, height, width) in 0..1 twice, edges replicated."""
        return self.body(functional.pad(pictures, (BORDER,) * 4, mode="replicate"))


def model(folder: str) -> nn.Module:
    """The trained network."""
    network = UpConv7()
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network


def splits(folder: str) -> dict[str, Rows]:
    """Tiles of three pictures to search on and of four others for the end."""
    pictures = np.load(Path(folder) / "data.npz")
    searched = _tiles([pictures[name] for name in SEARCHED])
    others = [pictures[name] for name in pictures.files if name not in SEARCHED]
    return {"train": searched, "search": searched, "test": _tiles(others)}


def psnr_db(outputs: Tensor, targets: Tensor) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures in decibels, over all tiles, edges left out."""
    written = (_inside(outputs).clamp(0, 1) * 255).round() / 255
    return -10 * math.log10(float((written - _inside(targets)).square().mean()))


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of what the PSNR counts."""
    return (_inside(outputs) - _inside(targets)).square().mean()


def _inside(pictures: Tensor) -> Tensor:
    edge = 2 * BORDER
    return pictures[:, :, edge:-edge, edge:-edge]


def _tiles(pictures: list[np.ndarray]) -> Rows:
    """Small tiles (tiles, 3, TILE, TILE) and what they should become, both in 0..1."""
    small, large = [], []
    for picture in pictures:
        height, width = (size // 2 for size in picture.shape[:2])
        whole = Image.fromarray(picture)
        halved = np.asarray(whole.resize((width, height), Image.Resampling.BICUBIC))
        for top in range(0, height - TILE + 1, APART):
            for left in range(0, width - TILE + 1, APART):
                small.append(_cut(halved, top, left, TILE))
                large.append(_cut(picture, 2 * top, 2 * left, 2 * TILE))
    return torch.stack(small), torch.stack(large)


def _cut(picture: np.ndarray, top: int, left: int, size: int) -> Tensor:
    tile = picture[top : top + size, left : left + size]
    return torch.from_numpy(tile.copy()).permute(2, 0, 1).float() / 255
