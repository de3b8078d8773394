"""Networks of one path, or of a few that meet before the head: layers of every kind, in turn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 3 * 3, 60)
        self.fc2 = nn.Linear(60, 42)
        self.fc3 = nn.Linear(42, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2, ceil_mode=True)
        x = x.view(x.size(0), 16 * 3 * 3)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 16), (16, 32), (32, 32)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            if inputs == outputs:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(32 * 4 * 4, 64), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(64, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class Decoder(nn.Module):
    """Grouped and depthwise transposed convolutions: upsampling as in light decoders."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.wide = nn.Conv2d(8, 12, 3, padding=1)
        self.grouped = nn.ConvTranspose2d(12, 8, 2, stride=2, groups=2)
        self.mix = nn.Conv2d(8, 10, 1, bias=False)
        self.norm = nn.BatchNorm2d(10)
        self.depthwise = nn.ConvTranspose2d(10, 10, 2, stride=2, groups=10, bias=False)
        self.head = nn.Conv2d(10, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(F.relu(self.stem(x))))
        x = F.relu(self.grouped(x))
        x = F.relu(self.norm(self.mix(x)))
        return self.head(F.relu(self.depthwise(x)))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Linear(48, 32),
            nn.GELU(),
            nn.Linear(32, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Conv1dNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(4, 16, 5, padding=2)
        self.norm1 = nn.BatchNorm1d(16)
        self.conv2 = nn.Conv1d(16, 24, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(24, 24, 3, padding=2, dilation=2, bias=False)
        self.norm3 = nn.BatchNorm1d(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool1d(F.elu(self.norm1(self.conv1(x))), 2)
        x = F.relu(self.conv2(x))
        x = F.relu(x + self.norm3(self.conv3(x)))
        return self.head(x.transpose(1, 2)).mean(1)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 24)
        self.mix = nn.Linear(24, 32)
        self.head = nn.Linear(32, 6)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(F.relu(self.mix(self.embedding(ids))).mean(1))


class TwoInputs(nn.Module):
    """An image and a row of numbers, joined before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, 2, 1)
        self.norm = nn.BatchNorm2d(12)
        self.numbers = nn.Linear(5, 12)
        self.hidden = nn.Linear(24, 20)
        self.head = nn.Linear(20, 3)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        seen = F.relu(self.norm(self.conv(image))).mean(dim=(2, 3))
        known = torch.tanh(self.numbers(numbers))
        return self.head(F.relu(self.hidden(torch.cat([seen, known], dim=1))))


class TwoOutputs(nn.Module):
    """A class and a box from one trunk, as a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1)
        )
        self.classes = nn.Linear(16, 10)
        self.box = nn.Sequential(nn.Linear(16, 12), nn.PReLU(12), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = F.leaky_relu(self.trunk(x)).mean((2, 3))
        return {"classes": self.classes(features), "box": self.box(features)}
