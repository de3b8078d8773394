"""MNIST digits: LeNet-5 by its accuracy, and a variational autoencoder by its nats a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

Rows = tuple[Tensor, Tensor]


class LeNet(nn.Module):
    """LeNet-5 on pictures of 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.convnet = nn.ModuleDict(
            {"c1": nn.Conv2d(1, 6, 5), "c3": nn.Conv2d(6, 16, 5), "c5": nn.Conv2d(16, 120, 5)}
        )
        self.fc = nn.ModuleDict({"f6": nn.Linear(120, 84), "f7": nn.Linear(84, 10)})

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (batch, 10) of pictures (batch, 1, 32, 32) in 0..1."""
        x = functional.max_pool2d(self.convnet["c1"](pictures).relu(), 2)
        x = functional.max_pool2d(self.convnet["c3"](x).relu(), 2)
        x = self.convnet["c5"](x).relu().flatten(1)
        return self.fc["f7"](self.fc["f6"](x).relu())


class VAE(nn.Module):
    """Encoder and decoder; the code is its mean, nothing is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (batch, 784) in 0..1, and the code's mean and log variance (batch, 20)."""
        hidden = self.fc1(pixels).relu()
        mean, log_variance = self.fc21(hidden), self.fc22(hidden)
        return self.fc4(self.fc3(mean).relu()).sigmoid(), mean, log_variance


def lenet(folder: str) -> nn.Module:
    """The trained LeNet."""
    return _loaded(LeNet(), folder, "lenet")


def vae(folder: str) -> nn.Module:
    """The trained autoencoder."""
    return _loaded(VAE(), folder, "vae")


def digits(folder: str) -> dict[str, Rows]:
    """Pictures with their digits: half of MNIST's test file to search on, the other half for the end."""
    stored = np.load(Path(folder) / "data.npz")
    found = {}
    for name in ("train", "test"):
        images = [Image.fromarray(each) for each in stored[f"{name}_images"]]
        sized = [np.asarray(each.resize((32, 32), Image.Resampling.BILINEAR)) for each in images]
        pictures = torch.from_numpy(np.stack(sized)).float()[:, None] / 255
        found[name] = pictures, torch.from_numpy(stored[f"{name}_labels"].astype("int64"))
    return _halved(found)


def reconstructions(folder: str) -> dict[str, Rows]:
    """Pixels with themselves as targets, split as the digits are."""
    stored = np.load(Path(folder) / "data.npz")
    found = {}
    for name in ("train", "test"):
        pixels = torch.from_numpy(stored[f"{name}_images"]).flatten(1).float() / 255
        found[name] = pixels, pixels
    return _halved(found)


def nats(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> float:
    """Cross-entropy of the pixels plus the code's divergence from the prior, in nats a picture."""
    return float(negative_bound(outputs, targets))


def negative_bound(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    """The same with a gradient (Kingma and Welling 2014, arXiv:1312.6114, at the code's mean)."""
    pixels, mean, log_variance = outputs
    # Rounding may take a probability to 0 or 1, where its logarithm is not finite.
    entropy = functional.binary_cross_entropy(
        pixels.clamp(1e-7, 1 - 1e-7), targets, reduction="sum"
    )
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
    return (entropy + divergence) / len(targets)


def _loaded(network: nn.Module, folder: str, name: str) -> nn.Module:
    network.load_state_dict(load_file(Path(folder) / f"{name}.safetensors"))
    return network


def _halved(rows: dict[str, Rows]) -> dict[str, Rows]:
    inputs, targets = rows["test"]
    return {
        "train": rows["train"],
        "search": (inputs[::2], targets[::2]),
        "test": (inputs[1::2], targets[1::2]),
    }
