"""Small, honest versions of the network families paredown must handle, with lived-in norms.

`ZOO` maps a name to a module factory and an example factory. `tests/conftest.py` offers it as the
fixture `zoo`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def _pad_shortcut(x: Tensor, added: int) -> Tensor:
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, added, added))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.added = (outputs - inputs) // 2
        self.down: nn.Module | None = None
        if stride != 1 and projection:
            self.down = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.down is not None:
            x = self.down(x)
        elif self.added:
            x = _pad_shortcut(x, self.added)
        y += x
        return F.relu(y)


class ResNet(nn.Module):
    """CIFAR ResNet; `projection` False is option A (subsampling and zero channels)."""

    def __init__(self, blocks: int, widths: tuple[int, int, int], projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for stage, width in enumerate(widths, start=1):
            stack = []
            for index in range(blocks):
                stride = 2 if index == 0 and stage > 1 else 1
                stack.append(BasicBlock(inputs, width, stride, projection))
                inputs = width
            setattr(self, f"layer{stage}", nn.Sequential(*stack))
        self.linear = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.avg_pool2d(x, x.size()[3])
        return self.linear(x.view(x.size(0), -1))


def resnet20() -> ResNet:
    """ResNet-20 with option A shortcuts, parameter names as in the published weights."""
    return ResNet(3, (16, 32, 64), projection=False)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.identity = stride == 1 and inputs == outputs
        self.expand = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
        )
        self.project = nn.Sequential(
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.identity else y


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.blocks = nn.Sequential(
            InvertedResidual(8, 12, 1, 3),
            InvertedResidual(12, 12, 1, 4),
            InvertedResidual(12, 16, 2, 4),
            InvertedResidual(16, 16, 1, 4),
        )
        self.head = nn.Sequential(nn.Conv2d(16, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU6())
        self.classifier = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(x.mean([2, 3]))


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


def lived_in(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module in eval mode, weights and norm statistics seeded; some gammas are negative."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build().eval()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(part.running_mean, std=0.3)
                nn.init.uniform_(part.running_var, 0.5, 2.0)
                nn.init.uniform_(part.weight, -0.3, 1.5)
                nn.init.normal_(part.bias, std=0.3)
    return module


def _floats(*shape: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randn(batch, *shape, generator=torch.Generator().manual_seed(7))


def _two_inputs(batch: int) -> dict[str, Tensor]:
    return {"image": _floats(3, 12, 12)(batch), "numbers": _floats(5)(batch)}


def _ids(batch: int) -> Tensor:
    return torch.randint(50, (batch, 9), generator=torch.Generator().manual_seed(7))


_BUILDERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "lenet": (LeNet, _floats(1, 20, 20)),
    "vgg": (Vgg, _floats(3, 16, 16)),
    "resnet_a": (lambda: ResNet(2, (8, 16, 32), projection=False), _floats(3, 16, 16)),
    "resnet_projection": (lambda: ResNet(2, (8, 16, 32), projection=True), _floats(3, 16, 16)),
    "resnet20": (resnet20, _floats(3, 32, 32)),
    "mobilenet_v2": (MobileNetV2, _floats(3, 16, 16)),
    "densenet": (DenseNet, _floats(3, 12, 12)),
    "inception": (Inception, _floats(3, 16, 16)),
    "unet": (UNet, _floats(3, 16, 16)),
    "squeeze_excite": (SqueezeExcite, _floats(3, 16, 16)),
    "two_inputs": (TwoInputs, _two_inputs),
    "two_outputs": (TwoOutputs, _floats(3, 12, 12)),
    "mlp": (Mlp, _floats(8, 8)),
    "conv1d": (Conv1dNet, _floats(4, 16)),
    "words": (Words, _ids),
}

CNNS = tuple(name for name in _BUILDERS if name not in ("mlp", "words"))


def _factory(name: str, seed: int) -> Callable[[], nn.Module]:
    return lambda: lived_in(_BUILDERS[name][0], seed)


ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    name: (_factory(name, seed), _BUILDERS[name][1]) for seed, name in enumerate(_BUILDERS)
}
"""Name -> (module factory without arguments, example factory taking a batch size)."""
