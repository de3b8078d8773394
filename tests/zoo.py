"""Small, honest versions of the network families paredown must handle, with lived-in norms.

`ZOO` maps a name to a module factory and an example factory. `tests/conftest.py` offers it as the
fixture `zoo`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# This file is loaded by its path, so it has no package: as one of its own it finds its neighbours.
__path__ = [str(Path(__file__).parent)]
_plain, _residual, _branched, _attention = (
    import_module(f"{__name__}.zoo_{family}")
    for family in ("plain", "residual", "branched", "attention")
)


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


def _sentences(batch: int) -> dict[str, Tensor]:
    lengths = torch.arange(batch)[:, None] % 4 + 3
    return {"ids": _ids(batch)[:, :6].clone(), "real": (torch.arange(6)[None] < lengths).float()}


_BUILDERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "lenet": (_plain.LeNet, _floats(1, 20, 20)),
    "vgg": (_plain.Vgg, _floats(3, 16, 16)),
    "resnet_a": (lambda: _residual.ResNet(2, (8, 16, 32), projection=False), _floats(3, 16, 16)),
    "resnet_projection": (
        lambda: _residual.ResNet(2, (8, 16, 32), projection=True),
        _floats(3, 16, 16),
    ),
    "resnet20": (_residual.resnet20, _floats(3, 32, 32)),
    "mobilenet_v2": (_residual.MobileNetV2, _floats(3, 16, 16)),
    "densenet": (_branched.DenseNet, _floats(3, 12, 12)),
    "inception": (_branched.Inception, _floats(3, 16, 16)),
    "unet": (_branched.UNet, _floats(3, 16, 16)),
    "squeeze_excite": (_branched.SqueezeExcite, _floats(3, 16, 16)),
    "two_inputs": (_plain.TwoInputs, _two_inputs),
    "two_outputs": (_plain.TwoOutputs, _floats(3, 12, 12)),
    "mlp": (_plain.Mlp, _floats(8, 8)),
    "conv1d": (_plain.Conv1dNet, _floats(4, 16)),
    "words": (_plain.Words, _ids),
    "decoder": (_plain.Decoder, _floats(3, 12, 12)),
    "encoder": (_attention.Encoder, _sentences),
}

CNNS = tuple(name for name in _BUILDERS if name not in ("mlp", "words", "encoder"))


def _factory(name: str, seed: int) -> Callable[[], nn.Module]:
    return lambda: lived_in(_BUILDERS[name][0], seed)


ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    name: (_factory(name, seed), _BUILDERS[name][1]) for seed, name in enumerate(_BUILDERS)
}
"""Name -> (module factory without arguments, example factory taking a batch size)."""
