"""The built-in task: scikit-learn's 8x8 digits and a small residual network trained on them.

Training takes seconds and its result is cached by content hash, so every worker has the same
network.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.search.tasks.cache import cached_tensors, digest
from paredown.search.tasks.splits import Split, Splits

_VERSION = "1"  # raise it when the network, the splits or the training change
_EPOCHS = 20
_BATCH = 64
_PEAK_RATE = 0.01


class DigitsBlock(nn.Module):
    """Two 3x3 convolutions around an identity shortcut; `inner` channels between them."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, channels, height, width), shaped like `x`."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class DigitsNet(nn.Module):
    """56,330 parameters; images (n, 1, 8, 8) to logits (n, 10).

    Widths are multiples of 16, the step in which runtimes compute faster.
    """

    def __init__(self, inner: int = 48) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.block1 = DigitsBlock(32, 32)
        self.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.block2 = DigitsBlock(32, inner)
        self.linear = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of images (n, 1, 8, 8)."""
        x = self.block1(F.relu(self.bn1(self.conv1(x))))
        x = self.block2(F.relu(self.bn2(self.conv2(x))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def digits_splits(seed: int, calibration_images: int) -> Splits:
    """Half of the 1,797 images to train on, a quarter to search on, a quarter to test on.

    Each split holds every digit in the same share. Nothing is shared between them, except that the
    calibration images are training images.
    """
    train = digits_split("train", seed)
    return Splits(
        calibration=train.shuffled(calibration_images, seed),
        search=digits_split("search", seed),
        open_train=functools.partial(digits_split, "train", seed),
        open_test=functools.partial(digits_split, "test", seed),
    )


def digits_split(part: str, seed: int) -> Split:
    """One of the splits "train", "search", "test"; images (n, 1, 8, 8) uint8, in random order."""
    images, labels = _load()
    generator = torch.Generator().manual_seed(seed)
    index = torch.cat([_share(rows, part, generator) for rows in _rows_by_class(labels)])
    index = index[torch.randperm(len(index), generator=generator)]
    return Split(inputs=(images[index],), targets=labels[index], prepare=scaled)


def scaled(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Grey values 0..16 as floats in [-1, 1]."""
    return (inputs[0].float() / 8 - 1,)


def trained_digits(seed: int, inner: int = 48) -> DigitsNet:
    """The network, trained (or from the cache) on the train split of `seed`; in eval mode."""
    images, labels = _load()
    made_from = (_VERSION, torch.__version__, str(seed), str(inner))
    data = (images.numpy().tobytes(), labels.numpy().tobytes())
    name = f"digits-{digest(*made_from, *data)}"
    net = DigitsNet(inner)
    net.load_state_dict(cached_tensors(name, lambda: _train(seed, inner)))
    return net.eval()


@functools.cache
def _load() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # a second to import, and only this task needs it

    data = load_digits()
    images = torch.from_numpy(data.images).to(torch.uint8).unsqueeze(1)
    return images, torch.from_numpy(data.target).long()


def _rows_by_class(labels: Tensor) -> list[Tensor]:
    return [(labels == digit).nonzero().flatten() for digit in range(10)]


def _share(rows: Tensor, part: str, generator: torch.Generator) -> Tensor:
    rows = rows[torch.randperm(len(rows), generator=generator)]
    half, quarter = len(rows) // 2, len(rows) // 4
    start, stop = {
        "train": (0, half),
        "search": (half, half + quarter),
        "test": (half + quarter, len(rows)),
    }[part]
    return rows[start:stop]


def _train(seed: int, inner: int) -> dict[str, Tensor]:
    """Weights after 20 epochs of AdamW with a one-cycle rate and shifted images; deterministic."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of a sum, and so its rounding, depends on the threads
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = DigitsNet(inner).train()
            _fit(net, digits_split("train", seed))
    finally:
        torch.set_num_threads(threads)
    return net.state_dict()


def _fit(net: DigitsNet, train: Split) -> None:
    images, labels = scaled(train.inputs)[0], train.targets
    assert isinstance(labels, Tensor)
    steps = _EPOCHS * math.ceil(len(train) / _BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=_PEAK_RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(train)).split(_BATCH):
            loss = F.cross_entropy(net(_shifted(images[rows])), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()


def _shifted(images: Tensor) -> Tensor:
    """Each image moved by up to one pixel, and turned and scaled a little."""
    n = len(images)
    angle = (torch.rand(n) - 0.5) * 0.4
    zoom = 1 + (torch.rand(n) - 0.5) * 0.2
    shift = (torch.rand(n, 2) - 0.5) * 0.5  # of the image's half width, 4 pixels
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    grid = F.affine_grid(
        torch.cat([turn * zoom.view(n, 1, 1), shift.unsqueeze(2)], 2),
        list(images.shape),
        align_corners=False,
    )
    return F.grid_sample(images + 1, grid, align_corners=False) - 1
