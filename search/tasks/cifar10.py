"""The built-in task on CIFAR-10: images decoded once, and published ResNets.

The networks are those of He et al. 2015, arXiv:1512.03385, section 4.2, with option A shortcuts; their
parameters are named as in the published weights (GitHub akamaster/pytorch_resnet_cifar10).
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from paredown.search.config.schema import Cifar10Task
from paredown.search.config.schema_task import ParquetFiles
from paredown.search.tasks.cache import cached_file, digest
from paredown.search.tasks.hub import hub_rows
from paredown.search.tasks.splits import DataError, Split, Splits

if TYPE_CHECKING:
    from datasets import Dataset

_VERSION = "1"  # raise it when the decoded form changes
# The statistics the published weights were trained with (those of ImageNet).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def cifar10_splits(section: Cifar10Task) -> Splits:
    """Search split: the first `search_rows` rows of the test file; test split: the others.

    Only the rows of the search split and the calibration images are read here.
    """
    test, train = _decoded(section, "test"), functools.partial(_decoded, section, "train")
    return Splits(
        calibration=_calibration(train(), section),
        search=_search_rows(test, section),
        open_train=functools.partial(_open_train, section),
        open_test=functools.partial(_open_test, section),
    )


def normalized(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """uint8 images (n, 3, 32, 32) as floats with the published mean and deviation."""
    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)
    return ((inputs[0].float() / 255 - mean) / std,)


def _open_train(section: Cifar10Task) -> Split:
    return _read(_decoded(section, "train"), 0, None)


def _open_test(section: Cifar10Task) -> Split:
    return _read(_decoded(section, "test"), section.search_rows, None)


def _search_rows(path: Path, section: Cifar10Task) -> Split:
    with safe_open(path, "pt") as file:
        count = file.get_slice("labels").get_shape()[0]
    if section.search_rows >= count:
        raise DataError(
            f"task.search_rows must leave rows to test on, got {section.search_rows} of {count}; "
            "make it smaller"
        )
    return _read(path, 0, section.search_rows)


def _calibration(path: Path, section: Cifar10Task) -> Split:
    return _read(path, 0, None).shuffled(section.calibration_images, section.seed)


def _read(path: Path, start: int, stop: int | None) -> Split:
    with safe_open(path, "pt") as file:
        images = file.get_slice("images")[start:stop]
        labels = file.get_slice("labels")[start:stop]
    return Split(inputs=(images,), targets=labels, prepare=normalized)


def _decoded(section: Cifar10Task, part: str) -> Path:
    """A safetensors file: `images` (n, 3, 32, 32) uint8 and `labels` (n,) int64, in row order."""
    dataset = section.dataset
    if isinstance(dataset, ParquetFiles):
        source = getattr(dataset, part)
        name = f"cifar10-{part}-{digest(_VERSION, source)}"
        return cached_file(name, functools.partial(_decode_files, source))
    rows = hub_rows(dataset, part)
    # Private, but the only name of the content that costs no pass over it.
    name = f"cifar10-{part}-{digest(_VERSION, str(dataset), rows._fingerprint)}"
    return cached_file(name, functools.partial(_decode, rows, str(dataset)))


def _decode_files(path: Path) -> dict[str, Tensor]:
    from datasets import load_dataset  # seconds to import, and a cached task does without

    # The pixels go to our own cache, so a second copy of the file would only fill the disk.
    with tempfile.TemporaryDirectory() as folder:
        rows = load_dataset("parquet", data_files=str(path), split="train", cache_dir=folder)
        return _decode(rows, str(path))


def _decode(rows: Dataset, source: str) -> dict[str, Tensor]:
    from datasets import Image

    column = next((name for name in ("img", "image") if name in rows.column_names), None)
    if column is None or "label" not in rows.column_names:
        raise DataError(
            f"{source} must have the columns img (or image) and label, got {rows.column_names}; "
            "rename them"
        )
    rows = rows.cast_column(column, Image(decode=False))
    labels = torch.tensor(list(rows["label"]), dtype=torch.int64)
    return {"images": _pixels(rows[column], len(rows), source), "labels": labels}


def _pixels(cells: Iterable[Mapping[str, bytes]], count: int, source: str) -> Tensor:
    from PIL import Image

    pixels = np.empty((count, 3, 32, 32), dtype=np.uint8)
    for row, cell in enumerate(cells):
        image = np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB"))
        if image.shape != (32, 32, 3):
            raise DataError(
                f"{source}: row {row} must be a 32x32 image, got shape {image.shape}; "
                "name a data set with CIFAR-10's layout"
            )
        pixels[row] = image.transpose(2, 0, 1)
    return torch.from_numpy(pixels)


DEPTHS = {"resnet20": 20, "resnet56": 56}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut that has no parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, outputs, ...) of `x` (n, inputs, ...), strided in height and width."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.padding, self.padding))


class CifarResNet(nn.Module):
    """A stem, three stages of 16, 32 and 64 channels, and a classifier; images (n, 3, 32, 32)."""

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, 32, 32)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.linear(x.flatten(1))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet(name: str) -> CifarResNet:
    """The network called resnet20 or resnet56, in eval mode, untrained."""
    return CifarResNet(DEPTHS[name]).eval()
