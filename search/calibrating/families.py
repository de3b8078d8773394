"""Random networks of general families, for a calibration without a model of one's own.

Each network is a fresh architecture; what is timed is a random candidate of its space, so
compressed and uncompressed operators of all sizes are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Family = Literal["cnn", "mobile", "mlp", "transformer", "recurrent"]
FAMILIES: tuple[Family, ...] = get_args(Family)


class Draw:
    """Seeded choices of an architecture."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def one_of(self, *options: int) -> int:
        """One of the options, each equally likely."""
        position = torch.randint(len(options), (), generator=self._generator)
        return options[int(position)]


def random_network(family: Family, seed: int) -> tuple[nn.Module, Tensor]:
    """A network of the family in eval mode and one example input (batch 1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, example = _BUILDERS[family](Draw(seed))
        return module.eval(), example


def _conv(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class _Residual(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(into, out, 3, stride)
        self.second = _conv(out, out, 3)
        same = into == out and stride == 1
        self.shortcut = nn.Identity() if same else _conv(into, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class _Inverted(nn.Module):
    def __init__(self, into: int, out: int, stride: int, expand: int, kernel: int) -> None:
        super().__init__()
        hidden = into * expand
        self.adds = into == out and stride == 1
        self.body = nn.Sequential(
            _conv(into, hidden, 1),
            nn.ReLU6(),
            _conv(hidden, hidden, kernel, stride, hidden),
            nn.ReLU6(),
            _conv(hidden, out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return x + self.body(x) if self.adds else self.body(x)


class _Encoder(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, expand: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, expand * width), nn.Linear(expand * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        batch, tokens, width = x.shape
        y = self.norms[0](x)
        q, k, v = (
            layer(y).view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(y)
        return x + self.narrow(F.gelu(self.wide(self.norms[1](x))))


class _Recurrent(nn.Module):
    """Recurrent layers, and a linear one that reads their last state."""

    def __init__(
        self, kind: type[nn.LSTM | nn.GRU], inputs: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        self.layers = kind(inputs, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return self.head(self.layers(x)[0][:, -1])


class _Pooled(nn.Module):
    """Means over all positions."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return x.mean(self.dims)


def _cnn(draw: Draw) -> tuple[nn.Module, Tensor]:
    width = draw.one_of(16, 24, 32, 48)
    side = draw.one_of(24, 32, 48)
    layers: list[nn.Module] = [_conv(3, width, 3), nn.ReLU()]
    for stage in range(3):
        out = width if stage == 0 else width * draw.one_of(1, 2)
        for block in range(draw.one_of(1, 2, 3)):
            layers.append(_Residual(width, out, 2 if block == 0 and stage > 0 else 1))
            width = out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers, *head), torch.randn(1, 3, side, side)


def _mobile(draw: Draw) -> tuple[nn.Module, Tensor]:
    width = draw.one_of(16, 24, 32)
    side = draw.one_of(32, 48, 64)
    layers: list[nn.Module] = [_conv(3, width, 3, 2), nn.ReLU6()]
    for stage in range(3):
        out = width + draw.one_of(0, 8, 16, 32)
        for block in range(draw.one_of(1, 2)):
            stride = 2 if block == 0 and stage > 0 else 1
            shape = draw.one_of(2, 4, 6), draw.one_of(3, 5)
            layers.append(_Inverted(width, out, stride, *shape))
            width = out
    last = draw.one_of(64, 128, 256)
    layers += [_conv(width, last, 1), nn.ReLU6()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 10)]
    return nn.Sequential(*layers, *head), torch.randn(1, 3, side, side)


def _mlp(draw: Draw) -> tuple[nn.Module, Tensor]:
    inputs = width = draw.one_of(64, 128, 256, 512)
    layers: list[nn.Module] = []
    for _ in range(draw.one_of(2, 3, 4, 5)):
        out = draw.one_of(64, 128, 256, 512, 1024)
        layers += [nn.Linear(width, out), nn.ReLU()]
        width = out
    return nn.Sequential(*layers, nn.Linear(width, 10)), torch.randn(1, inputs)


def _transformer(draw: Draw) -> tuple[nn.Module, Tensor]:
    width, tokens = draw.one_of(64, 128, 192, 256), draw.one_of(8, 16, 32, 64)
    heads, expand = draw.one_of(2, 4), draw.one_of(2, 4)
    blocks = [_Encoder(width, heads, expand) for _ in range(draw.one_of(1, 2, 3))]
    return (
        nn.Sequential(*blocks, _Pooled((1,)), nn.Linear(width, 10)),
        torch.randn(1, tokens, width),
    )


def _recurrent(draw: Draw) -> tuple[nn.Module, Tensor]:
    inputs, hidden = draw.one_of(16, 32, 64), draw.one_of(32, 48, 64, 96, 128, 192, 256)
    steps, layers = draw.one_of(8, 16, 32, 64), draw.one_of(1, 2)
    kind = (nn.LSTM, nn.GRU)[draw.one_of(0, 1)]
    return _Recurrent(kind, inputs, hidden, layers), torch.randn(1, steps, inputs)


_BUILDERS: Mapping[Family, Callable[[Draw], tuple[nn.Module, Tensor]]] = {
    "cnn": _cnn,
    "mobile": _mobile,
    "mlp": _mlp,
    "transformer": _transformer,
    "recurrent": _recurrent,
}
