"""ONNX Runtime computes what our own run computes: floats closely, codes to within their steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.onnx.lowering import LOWERINGS, lower, lowering_of, unsupported_operators
from paredown.compressors.onnx.plan import ExportError
from paredown.compressors.onnx.sizes import onnx_file_bytes
from paredown.spaces.graph.core import WRITTEN
from paredown.spaces.graph.facts import LIBRARY, OnnxRename
from paredown.spaces.graph.operators import OPERATORS


class Of(nn.Module):
    """A module from a function of its layers and inputs."""

    def __init__(self, function: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def image(channels: int = 4, size: int = 9) -> Tensor:
    return torch.randn(2, channels, size, size)


def attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).chunk(3, dim=-1)
    q, k, v = (t.view(2, 6, 2, 4).transpose(1, 2) for t in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=m.causal)
    return m.out(y.transpose(1, 2).reshape(2, 6, 8))


def attention_module(causal: bool) -> nn.Module:
    module = Of(attention, qkv=nn.Linear(8, 24), out=nn.Linear(8, 8))
    module.causal = causal
    return module


def shuffle(m: Any, x: Tensor) -> Tensor:
    return x.view(2, 2, 4, 9, 9).transpose(1, 2).reshape(2, 8, 9, 9)


CASES: dict[str, tuple[Any, Any]] = {
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), image),
    "grouped, strided, dilated": (
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        image,
    ),
    "same padding, even kernel": (lambda: nn.Conv2d(4, 3, 4, padding="same"), image),
    "conv transpose": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        image,
    ),
    "conv1d": (lambda: nn.Conv1d(4, 5, 3, padding=1, stride=2), lambda: torch.randn(2, 4, 11)),
    "conv transpose 1d": (
        lambda: nn.ConvTranspose1d(4, 5, 3, stride=2),
        lambda: torch.randn(2, 4, 11),
    ),
    "embedding": (
        lambda: Of(lambda m, x: m.out(m.e(x).mean(1)), e=nn.Embedding(10, 4), out=nn.Linear(4, 3)),
        lambda: torch.randint(0, 10, (2, 5)),
    ),
    "linear on a sequence": (lambda: nn.Linear(8, 3), lambda: torch.randn(2, 5, 8)),
    "linear without bias": (lambda: nn.Linear(8, 3, bias=False), lambda: torch.randn(2, 8)),
    "layer norm": (lambda: nn.LayerNorm((9, 9)), image),
    "layer norm without affine": (
        lambda: nn.LayerNorm(9, elementwise_affine=False),
        image,
    ),
    "group norm": (lambda: nn.GroupNorm(2, 4), image),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), image),
    "batch norm alone": (lambda: nn.BatchNorm2d(4), image),
    "gelu and silu": (lambda: nn.Sequential(nn.GELU(), nn.SiLU()), image),
    "softmax": (lambda: nn.Softmax(dim=1), image),
    "log softmax": (lambda: nn.LogSoftmax(dim=-1), image),
    "sigmoid and tanh": (lambda: Of(lambda m, x: torch.sigmoid(x) * torch.tanh(x)), image),
    "hardswish, hardsigmoid": (lambda: nn.Sequential(nn.Hardswish(), nn.Hardsigmoid()), image),
    "relu6": (lambda: Of(lambda m, x: F.relu6(3 * x)), image),
    "leaky relu and elu": (lambda: nn.Sequential(nn.LeakyReLU(0.1), nn.ELU(0.7)), image),
    "prelu": (lambda: nn.PReLU(4), image),
    "softplus and mish": (lambda: Of(lambda m, x: F.softplus(x) - F.mish(x)), image),
    "clamp": (lambda: Of(lambda m, x: x.clamp(-0.5, 0.7) + x.clamp(min=0.1)), image),
    "arithmetic": (
        lambda: Of(lambda m, x: (1 - x / 3) * 2 - (x.abs() + 1).sqrt() + (x**2 + 1).rsqrt()),
        image,
    ),
    "exp, log, erf": (lambda: Of(lambda m, x: torch.exp(-x.abs()).log() + torch.erf(x)), image),
    "maximum": (lambda: Of(lambda m, x: torch.maximum(x, 1 / (x.abs() + 1))), image),
    "cat and stack": (
        lambda: Of(lambda m, x: torch.stack([torch.cat([x, 2 * x], 1), torch.cat([x, x], 1)], 2)),
        image,
    ),
    "upsample nearest": (lambda: nn.Upsample(scale_factor=2), image),
    "upsample nearest by size": (lambda: nn.Upsample(size=(13, 20)), image),
    "upsample bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), image),
    "upsample bilinear, corners": (
        lambda: nn.Upsample(size=(13, 20), mode="bilinear", align_corners=True),
        image,
    ),
    "max pool, ceil": (lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), image),
    "max pool, ceil on an even size": (
        lambda: nn.MaxPool2d(2, 2, padding=1, ceil_mode=True),
        lambda: image(size=7),
    ),
    "max pool, dilated": (lambda: nn.MaxPool2d(3, 1, dilation=2), image),
    "max pool 1d": (lambda: nn.MaxPool1d(2), lambda: torch.randn(2, 4, 11)),
    "avg pool, padded": (lambda: nn.AvgPool2d(3, 2, padding=1), image),
    "avg pool, pads not counted": (
        lambda: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        image,
    ),
    "avg pool, ceil": (lambda: nn.AvgPool2d(2, 2, ceil_mode=True), image),
    "avg pool, ceil and padded": (
        lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
        lambda: image(size=8),
    ),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d(3), image),
    "adaptive pool to one": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        image,
    ),
    "means and sums": (
        lambda: Of(lambda m, x: x.mean((2, 3)) + x.sum((2, 3)) + x.mean(-1).mean(-1) + x.mean()),
        image,
    ),
    "split, select, unbind": (
        lambda: Of(
            lambda m, x: x.split([1, 3], 1)[1][:, :1] + x[:, 2:3] + x.unbind(1)[0][:, None]
        ),
        image,
    ),
    "chunk": (lambda: Of(lambda m, x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1]), image),
    "slice": (lambda: Of(lambda m, x: x[:, 1:, ::2, -4:-1]), image),
    "reshapes": (
        lambda: Of(lambda m, x: x.permute(0, 2, 3, 1).unsqueeze(1).squeeze(1).flatten(1)),
        image,
    ),
    "expand": (
        lambda: Of(lambda m, x: x.mean((2, 3), keepdim=True).expand(2, 4, 3, 3) + 1),
        image,
    ),
    "pads": (
        lambda: Of(
            lambda m, x: F.pad(F.pad(x, (1, 2, 0, 1), mode="reflect"), (1, 0, 2, 1), value=0.5)
        ),
        image,
    ),
    "pad replicate": (lambda: Of(lambda m, x: F.pad(x, (1, 2, 3, 0), mode="replicate")), image),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), image),
    "channel shuffle": (lambda: Of(shuffle), lambda: image(8)),
    "channel shuffle operator": (lambda: nn.ChannelShuffle(2), image),
    "attention": (lambda: attention_module(False), lambda: torch.randn(2, 6, 8)),
    "causal attention": (lambda: attention_module(True), lambda: torch.randn(2, 6, 8)),
    "matmul and bmm": (
        lambda: Of(lambda m, x: x @ x.transpose(-1, -2) + torch.bmm(x[:, 0], x[:, 1])[:, None]),
        image,
    ),
    "argmax": (lambda: Of(lambda m, x: (x.argmax(1), x.argmax(1, keepdim=True))), image),
    "the input itself": (lambda: Of(lambda m, x: {"same": x, "twice": 2 * x, "x": 2 * x}), image),
}


class Together(nn.Module):
    """Several modules on one input: one trace and one file for all of them."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.parts = nn.ModuleList(CASES[name][0]() for name in names)

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {name: part(x) for name, part in zip(self.names, self.parts, strict=True)}


IMAGES = [name for name, (_, example) in CASES.items() if example is image]
GROUPS = [IMAGES[i::4] for i in range(4)] + [[name] for name in CASES if name not in IMAGES]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_float_outputs_equal_our_own_run(names: list[str], identity, run_onnx) -> None:
    x = CASES[names[0]][1]()
    model = identity(Together(names), x)
    found, expected = run_onnx(model, x)
    for key, ours, theirs in zip(model.blueprint.graph.output_keys, expected, found, strict=True):
        assert ours.shape == theirs.shape, key
        assert ours.dtype == theirs.dtype, key
        assert float((ours - theirs).abs().max()) <= 1e-4 * float(ours.abs().max() + 1e-6), key
    proto = lower(model)
    onnx.checker.check_model(proto, full_check=True)
    assert onnx_file_bytes(model.blueprint) == len(proto.SerializeToString())


@pytest.mark.parametrize(("bits", "kind"), [(8, "int8"), (4, "int4"), (3, "int4"), (2, "int2")])
@pytest.mark.parametrize(
    "name", ["grouped, strided, dilated", "conv transpose", "embedding", "linear on a sequence"]
)
def test_integer_weights_are_read_as_the_floats_they_stand_for(
    name, bits, kind, identity, with_weights, run_onnx
) -> None:
    module, example = CASES[name]
    x = example()
    model = with_weights(identity(module(), x), bits, kind)
    for theirs, ours in zip(*run_onnx(model, x), strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-4 * float(ours.abs().max())


@pytest.mark.parametrize(
    "name", ["conv1d", "linear on a sequence", "depthwise", "attention", "chunk"]
)
def test_codes_differ_from_our_run_by_a_few_steps(
    name, identity, with_weights, with_codes, run_onnx
) -> None:
    module, example = CASES[name]
    x = example()
    model = with_codes(with_weights(identity(module(), x), 8, "int8"), x)
    for theirs, ours in zip(*run_onnx(model, x), strict=True):
        assert float((ours - theirs).abs().max()) <= 0.02 * float(ours.abs().max())


def test_a_file_holds_nothing_but_the_model(resnet_model) -> None:
    proto = lower(resnet_model)
    assert proto.producer_name == "paredown"
    assert not proto.graph.value_info
    assert not proto.graph.doc_string
    assert not any(node.name or node.doc_string for node in proto.graph.node)


@pytest.mark.parametrize("op", list(OPERATORS))
def test_every_operator_of_a_graph_has_a_lowering(op: str) -> None:
    assert lowering_of(op) is not None
    form = OPERATORS[op].onnx
    assert not isinstance(form, OnnxRename) or onnx.defs.has(form.op_type)


def test_no_lowering_is_left_that_no_operator_names() -> None:
    named = {facts.onnx for facts in OPERATORS.values()} | set(WRITTEN.values()) | {LIBRARY}
    assert named >= set(LOWERINGS)


def test_an_operator_without_lowering_is_named_before_anything_is_written(
    identity, monkeypatch
) -> None:
    model = identity(nn.Hardswish(), image())
    without = replace(OPERATORS["aten.hardswish.default"], onnx=None)
    monkeypatch.setitem(OPERATORS, "aten.hardswish.default", without)
    assert unsupported_operators(model.blueprint.graph) == ("aten.hardswish.default",)
    with pytest.raises(ExportError, match=r"aten\.hardswish\.default"):
        lower(model)
