"""Which values hold codes, quantisation above the operators it followed, and biases that fit int32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.models.codes import (
    arrange,
    codes_source,
    ends_in_codes,
    fit_biases,
    gives_activated_floats,
    is_layout,
)
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref


def test_quantisation_moves_above_layouts_without_changing_a_bit(
    resnet_model, with_weights, with_codes
) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(resnet_model, 8, "int8"), x)
    arranged = replace(
        model, blueprint=replace(model.blueprint, graph=arrange(model.blueprint.graph))
    )
    assert torch.equal(arranged([x])[0], model([x])[0])
    follows = {n.args[0].name for n in arranged.blueprint.graph.nodes if n.op == QDQ}
    assert "view" in {n.args[0].name for n in model.blueprint.graph.nodes if n.op == QDQ}
    assert "view" not in follows
    assert "avg_pool2d" in follows


def test_a_bias_that_overflows_int32_raises_the_scale(
    identity, with_weights, with_codes, run_onnx
) -> None:
    layer = nn.Conv2d(4, 4, 3)
    with torch.no_grad():
        layer.weight[1] *= 1e-12
        layer.bias[1] = 1.0
    x = torch.randn(2, 4, 9, 9)
    module = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(4, 4, 1))
    model = with_codes(with_weights(identity(module, x), 8, "int8"), x)
    fitted = fit_biases(model)
    assert float(fitted.tensors["0.weight"][1].abs().max()) < 1e-6
    assert torch.equal(fitted.tensors["0.weight"][0], model.tensors["0.weight"][0])
    (found,), (ours,) = run_onnx(model, x)
    assert float((found - ours).abs().max()) <= 0.02 * float(ours.abs().max())


def coded(*, with_pad: float | None = None) -> Graph:
    """x -> codes -> [pad] -> flatten -> relu -> codes, with a second reader of the flattened."""

    class Net(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x if with_pad is None else F.pad(x, (1, 1), value=with_pad)
            y = y.flatten(1)
            return torch.relu(y), y + 1

    graph = capture(Net(), torch.randn(2, 3, 4)).graph
    first, *others = graph.nodes
    codes = Node(name="q", op=QDQ, args=(Ref("x"), 0.1, 0, 0, 255), shape=(2, 3, 4))
    first = replace(first, args=(Ref("q"), *first.args[1:]))
    return replace(graph, nodes=(codes, first, *others))


@pytest.mark.parametrize(("value", "are_codes"), [(None, True), (0.0, True), (0.5, False)])
def test_codes_are_seen_through_what_only_moves_them(value: float | None, are_codes: bool) -> None:
    graph = coded(with_pad=value)
    flat = next(n for n in graph.nodes if "flatten" in n.op or "view" in n.op)
    found = codes_source(graph, flat.name)
    assert (found is not None and found.name == "q") is are_codes
    relu = next(n for n in graph.nodes if "relu" in n.op)
    # What is computed from codes holds none of its own.
    assert codes_source(graph, relu.name) is None
    assert codes_source(graph, "x") is None
    assert not is_layout(relu)


def chain(*, clamp: bool, ends: bool, also_read: bool) -> tuple[Graph, Node]:
    """A linear layer, perhaps a clamp, perhaps codes; and the layer's node."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            y = self.linear(x)
            z = torch.relu(y) if clamp else y
            return (z * 2, y + 1) if also_read else (z * 2,)

    graph = capture(Net(), torch.randn(2, 4)).graph
    nodes = list(graph.nodes)
    if ends:
        times = next(n for n in nodes if "mul" in n.op)
        source = times.args[0]
        codes = Node(name="q", op=QDQ, args=(source, 0.1, 0, 0, 255), shape=(2, 3))
        nodes[nodes.index(times)] = replace(times, args=(Ref("q"), *times.args[1:]))
        nodes.insert([n.name for n in nodes].index(source.name) + 1, codes)
    graph = replace(graph, nodes=tuple(nodes))
    return graph, next(n for n in nodes if "linear" in n.op)


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("also_read", [False, True])
def test_a_result_is_wanted_as_codes_alone_where_nobody_else_reads_it(
    clamp: bool, ends: bool, also_read: bool
) -> None:
    graph, node = chain(clamp=clamp, ends=ends, also_read=also_read)
    assert ends_in_codes(graph, node) is (ends and not also_read)
    # The runtime fuses a float activation into the product before it looks for codes.
    assert gives_activated_floats(graph, node) is (clamp and not ends and not also_read)


def test_a_bias_beside_codes_is_whole_units_and_a_float_one_is_left_alone(
    identity: Any, with_weights: Any, with_codes: Any
) -> None:
    x = torch.randn(2, 6)
    floats = with_weights(identity(nn.Linear(6, 4), x), 8, "int8")
    assert fit_biases(floats).stored == floats.stored
    model = with_codes(floats, x)
    fitted = fit_biases(model)
    (qdq,) = [n for n in model.blueprint.graph.nodes if n.op == QDQ and n.args[0].name == "input"]
    unit = fitted.stored["weight"].scale.double() * qdq.args[1]
    units = fitted.stored["bias"].values.double() / unit
    torch.testing.assert_close(units, units.round(), atol=1e-3, rtol=0)
    off = (fitted.stored["bias"].values - model.stored["bias"].values).abs()
    assert bool((off <= 0.51 * unit).all())


def test_a_channel_without_weights_keeps_its_bias(
    identity: Any, with_weights: Any, with_codes: Any
) -> None:
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight[2] = 0.0
        layer.bias[2] = 3.0
    x = torch.randn(2, 6)
    fitted = fit_biases(with_codes(with_weights(identity(layer, x), 8, "int8"), x))
    assert float(fitted.stored["bias"].values[2]) == pytest.approx(3.0, rel=1e-6)
