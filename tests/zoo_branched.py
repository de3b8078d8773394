"""Networks whose paths part and meet: dense blocks, inception, a U-Net, and gates on channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.block1 = nn.Sequential(DenseLayer(12, 8), DenseLayer(20, 8))
        self.transition_norm = nn.BatchNorm2d(28)
        self.transition = nn.Conv2d(28, 14, 1, bias=False)
        self.block2 = nn.Sequential(DenseLayer(14, 8), DenseLayer(22, 8))
        self.norm = nn.BatchNorm2d(30)
        self.classifier = nn.Linear(30, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.stem(x))
        x = F.avg_pool2d(self.transition(F.relu(self.transition_norm(x))), 2)
        x = F.relu(self.norm(self.block2(x)))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class InceptionCell(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, 8, 1)
        self.three_reduce = nn.Conv2d(inputs, 6, 1)
        self.three = nn.Conv2d(6, 12, 3, padding=1)
        self.five_reduce = nn.Conv2d(inputs, 4, 1)
        self.five = nn.Conv2d(4, 6, 5, padding="same")
        self.pool = nn.Conv2d(inputs, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.one(x))
        three = F.relu(self.three(F.relu(self.three_reduce(x))))
        five = F.relu(self.five(F.relu(self.five_reduce(x))))
        pool = F.relu(self.pool(F.max_pool2d(x, 3, 1, 1)))
        return torch.cat((one, three, five, pool), dim=1)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.cell1 = InceptionCell(16)
        self.cell2 = InceptionCell(32)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cell2(F.max_pool2d(self.cell1(self.stem(x)), 2))
        return self.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Segmentation: logits for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = _double_conv(3, 8)
        self.down2 = _double_conv(8, 16)
        self.bottom = _double_conv(16, 24)
        self.up2 = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.merge2 = _double_conv(32, 16)
        self.up1 = nn.ConvTranspose2d(16, 8, 2, stride=2, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.merge1 = _double_conv(16, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(F.max_pool2d(fine, 2))
        deep = self.bottom(F.max_pool2d(middle, 2))
        middle = self.merge2(torch.cat([middle, self.up2(deep)], dim=1))
        fine = self.merge1(torch.cat([fine, self.norm1(self.up1(middle))], dim=1))
        return self.head(fine)


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.adaptive_avg_pool2d(x, 1).view(x.size(0), x.size(1))
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(gate))))
        return x * gate.view(x.size(0), x.size(1), 1, 1)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.gate1 = Squeeze(16)
        self.conv = nn.Sequential(
            nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish()
        )
        self.gate2 = Squeeze(32)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gate2(self.conv(self.gate1(self.stem(x))))
        return self.classifier(x.mean((2, 3), keepdim=True).flatten(1))
