"""Image networks as they are: captured, equal to torch, reached by bits, in 8 bits in ONNX Runtime.

One of each family of timm with random weights, narrow or short where its arguments allow, on small
images; and networks that answer for each pixel or each anchor, written here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.kernels.kernel_checks import session
from paredown.compressors.layers.database import Database
from paredown.compressors.models.assembling import assemble
from paredown.compressors.onnx.lowering import lower, output_names
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.capture.capturing import as_inputs, capture
from paredown.spaces.capture.hold import disagreement, module_outputs, run_graph
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.reach import reached_shares
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.structure.reading import read_model_map

pytestmark = pytest.mark.models
ROWS = 3


class UNet(nn.Module):
    """Ronneberger et al. 2015, two levels deep: a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.deep = _block(3, 16), _block(16, 32), _block(32, 64)
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)]
        )
        self.joined = nn.ModuleList([_block(64, 32), _block(32, 16)])
        self.classes = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(x)
        coarse = self.second(F.max_pool2d(fine, 2))
        x = self.deep(F.max_pool2d(coarse, 2))
        for up, joined, skipped in zip(self.up, self.joined, (coarse, fine), strict=True):
            x = joined(torch.cat([up(x), skipped], 1))
        found: Tensor = self.classes(x)
        return found


class Detector(nn.Module):
    """RetinaNet (Lin et al. 2017) on two levels: one head for both, scores and boxes of each anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = _block(3, 16, 2), _block(16, 32, 2)
        self.lateral = nn.ModuleList([nn.Conv2d(16, 24, 1), nn.Conv2d(32, 24, 1)])
        self.scores = nn.Sequential(_block(24, 24), nn.Conv2d(24, 3 * 4, 3, padding=1))
        self.boxes = nn.Sequential(_block(24, 24), nn.Conv2d(24, 3 * 4, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x)
        coarse = self.lateral[1](self.coarse(fine))
        levels = [self.lateral[0](fine) + F.interpolate(coarse, scale_factor=2.0), coarse]
        scores, boxes = (
            torch.cat([_by_anchor(head(level)) for level in levels], 1)
            for head in (self.scores, self.boxes)
        )
        return scores, boxes


def _block(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())


def _by_anchor(x: Tensor) -> Tensor:
    """(batch, 3 anchors x 4, height, width) as (batch, anchors of all places, 4)."""
    return x.unflatten(1, (3, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def _of_timm(name: str, **arguments: Any) -> nn.Module:
    timm: Any = pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)
    module: nn.Module = timm.create_model(name, num_classes=10, **arguments)
    return module


class Case(NamedTuple):
    """What makes a network, and the side of its images."""

    build: Callable[[], nn.Module]
    size: int = 64


CASES = {
    "resnet": Case(partial(_of_timm, "resnet18", channels=(16, 32, 64, 128))),
    "resnext": Case(partial(_of_timm, "resnext50_32x4d", layers=(1, 1, 1, 1))),
    "densenet": Case(partial(_of_timm, "densenet121", block_config=(2, 2, 2, 2))),
    "mobilenet_v2": Case(partial(_of_timm, "mobilenetv2_035")),
    "mobilenet_v3": Case(partial(_of_timm, "mobilenetv3_small_050")),
    "mobilenet_v4": Case(partial(_of_timm, "mobilenetv4_conv_small_035")),
    "efficientnet": Case(partial(_of_timm, "efficientnet_lite0")),
    "edgenext": Case(partial(_of_timm, "edgenext_xx_small")),
    "ghostnet": Case(partial(_of_timm, "ghostnet_050")),
    "regnet": Case(partial(_of_timm, "regnetx_002")),
    "convnext": Case(partial(_of_timm, "convnext_atto", depths=(1, 1, 2, 1))),
    "swin": Case(
        partial(
            _of_timm,
            "swin_tiny_patch4_window7_224",
            img_size=56,
            embed_dim=48,
            depths=(2, 2, 2),
            num_heads=(2, 4, 8),
        ),
        56,
    ),
    "unet": Case(UNet, 32),
    "detector": Case(Detector, 32),
}


def _built(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return case.build().eval()


def _images(case: Case, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 3, case.size, case.size, generator=generator)


@pytest.mark.parametrize("name", CASES)
def test_an_image_network_goes_the_whole_way_as_it_is(name: str) -> None:
    case = CASES[name]
    module = _built(case)
    images = _images(case, ROWS)
    captured = capture(module, images[:1])
    graph = captured.graph
    assert disagreement(module_outputs(module, images), run_graph(captured, images)) is None

    model_map = read_model_map(captured)
    names = tuple(layer.name for layer in model_map.layers)
    bits = WeightBitsKnob(name="bits", targets=names, domain=(32, 8))
    reached = reached_shares(Architecture(name="", model_map=model_map, knobs=(bits,)))
    assert reached["weight_bits"] >= 0.95

    statistics = collect_statistics(graph, captured.tensors, model_map.layers, [[images]])
    database = Database(model_map, captured.tensors, statistics, {})
    choice = LayerChoice(weight_bits=8, method="rtn")
    model = assemble(Candidate.of(layers=dict.fromkeys(names, choice)), database)
    assert all(model.stored[x.weight].values.dtype == torch.int8 for x in model_map.layers)
    proto = lower(model)
    running = session(proto.SerializeToString(), exact=True)
    inputs = as_inputs(graph, images[:1])
    feeds = {n: x.numpy() for n, x in zip(graph.inputs, inputs, strict=True)}
    made = running.run(list(output_names(graph)), feeds)
    with torch.no_grad():
        assert disagreement(model(inputs), tuple(map(torch.from_numpy, made))) is None
