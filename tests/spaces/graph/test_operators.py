"""Every record of the table says what its operator really does, as torch itself shows it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from paredown.spaces.graph.core import overload_of
from paredown.spaces.graph.facts import OperatorFacts, WorkKind
from paredown.spaces.graph.functions import DYNAMIC_QDQ, GETITEM, QDQ, QUANTISERS
from paredown.spaces.graph.graph import run
from paredown.spaces.graph.names import BATCH_NORM, TRACED_AS
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.graph.recurrent import GATES, GRU, LSTM, RNN_RELU, RNN_TANH

ROOT = Path(__file__).resolve().parents[3]


def _x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


X, LINE, POSITIVE = _x(2, 4, 6, 6), _x(2, 4, 6), _x(2, 4, 6, 6).abs() + 0.1
PER_CHANNEL = (torch.ones(4), torch.zeros(4), torch.zeros(4), torch.ones(4))
WINDOW = ([1, 1], [0, 0], [1, 1], 1)
GATES_READ = _x(3, 2, 5)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    GATES: (GATES_READ, _x(5, 5), torch.zeros(5)),
    LSTM: (_x(3, 2, 20), None, None, _x(20, 5), torch.zeros(20)),
    GRU: (_x(3, 2, 15), None, _x(15, 5), torch.zeros(15)),
    RNN_TANH: (GATES_READ, None, _x(5, 5), torch.zeros(5)),
    RNN_RELU: (GATES_READ, None, _x(5, 5), torch.zeros(5)),
    "aten.pow.Tensor_Tensor": (POSITIVE, X),
    "aten.mm.default": (_x(3, 4), _x(4, 5)),
    "aten.roll.default": (X, [1], [2]),
    "aten.masked_fill.Scalar": (X, X > 0, 0.5),
    QDQ: (X, 0.1, 3, 0, 255),
    DYNAMIC_QDQ: (X, 1),
    GETITEM: ((X, LINE), 1),
    **{f"aten.{name}.Scalar": (X, 2.5) for name in ("add", "sub", "mul", "div", "rsub")},
    "aten.pow.Tensor_Scalar": (X, 2.0),
    **{f"aten.{name}.default": (POSITIVE,) for name in ("log", "sqrt", "rsqrt", "reciprocal")},
    **{f"aten.{name}.Tensor": (X, POSITIVE) for name in ("add", "sub", "mul", "div")},
    **{f"aten.{name}.default": (X, POSITIVE) for name in ("maximum", "minimum")},
    "aten.clamp.default": (X, 0.0, 0.5),
    "aten.clamp_min.default": (X, 0.0),
    "aten.prelu.default": (X, torch.full((4,), 0.1)),
    "aten.softmax.int": (X, 1),
    "aten._softmax.default": (X, 1, False),
    "aten.log_softmax.int": (X, 1),
    "aten._log_softmax.default": (X, 1, False),
    "aten.conv1d.default": (LINE, _x(5, 4, 3), torch.zeros(5), [1], [0], [1], 1),
    "aten.conv1d.padding": (LINE, _x(5, 4, 3), torch.zeros(5), [1], "same", [1], 1),
    "aten.conv2d.default": (X, _x(5, 4, 3, 3), torch.zeros(5), *WINDOW),
    "aten.conv2d.padding": (X, _x(5, 4, 3, 3), torch.zeros(5), [1, 1], "same", [1, 1], 1),
    "aten.conv_transpose1d.default": (LINE, _x(4, 5, 3), torch.zeros(5)),
    "aten.conv_transpose2d.input": (X, _x(4, 5, 3, 3), torch.zeros(5)),
    "aten.linear.default": (X, _x(5, 6), torch.zeros(5)),
    "aten.embedding.default": (_x(7, 5), torch.tensor([[0, 6]])),
    "aten.matmul.default": (X, X),
    "aten.bmm.default": (_x(2, 3, 4), LINE),
    "aten.scaled_dot_product_attention.default": (X, X, X),
    BATCH_NORM: (X, *PER_CHANNEL, False, 0.1, 1e-5, False),
    "aten.instance_norm.default": (X, *PER_CHANNEL, False, 0.1, 1e-5, False),
    "aten.layer_norm.default": (X, [6], torch.ones(6), torch.zeros(6)),
    "aten.group_norm.default": (X, 2, torch.ones(4), torch.zeros(4)),
    "aten.max_pool1d.default": (LINE, [2]),
    "aten.max_pool2d.default": (X, [2, 2]),
    "aten.avg_pool1d.default": (LINE, [2]),
    "aten.avg_pool2d.default": (X, [2, 2]),
    "aten.adaptive_avg_pool1d.default": (LINE, [2]),
    "aten.adaptive_avg_pool2d.default": (X, [2, 2]),
    "aten.mean.dim": (X, [2, 3], True),
    "aten.sum.dim_IntList": (X, [2, 3], True),
    "aten.reshape.default": (X, [2, 144]),
    "aten.view.default": (X, [2, 144]),
    "aten.flatten.using_ints": (X, 1),
    "aten.unsqueeze.default": (X, 1),
    "aten.squeeze.dim": (_x(2, 1, 3), 1),
    "aten.dropout.default": (X, 0.5, False),
    "aten.to.dtype": (X, torch.int64),
    "aten.transpose.int": (X, 1, 2),
    "aten.permute.default": (X, [0, 2, 3, 1]),
    "aten.expand.default": (_x(2, 1, 3), [2, 4, 3]),
    "aten.slice.Tensor": (X, 1, 1, 3),
    "aten.select.int": (X, 1, 2),
    "aten.pad.default": (X, [1, 1]),
    "aten.constant_pad_nd.default": (X, [1, 1]),
    "aten.pixel_shuffle.default": (X, 2),
    "aten.channel_shuffle.default": (X, 2),
    "aten.split.Tensor": (X, 2, 1),
    "aten.split_with_sizes.default": (X, [1, 3], 1),
    "aten.chunk.default": (X, 2, 1),
    "aten.unbind.int": (X, 1),
    "aten.upsample_nearest2d.vec": (X, [9, 9], None),
    "aten.upsample_bilinear2d.vec": (X, [9, 9], False, None),
    "aten.cat.default": ([X, X], 1),
    "aten.stack.default": ([X, X], 1),
}
"""Arguments in schema order; an operator that is not here takes `X` alone."""

each = pytest.mark.parametrize("op", list(OPERATORS))


def _where(fact: str) -> pytest.MarkDecorator:
    """The operators of which the record says something."""
    empty = OperatorFacts(run, None)
    found = [
        op for op, f in OPERATORS.items() if getattr(f, fact) not in (getattr(empty, fact), None)
    ]
    assert found, fact
    return pytest.mark.parametrize("op", found)


def _arguments(op: str) -> tuple[Any, ...]:
    return ARGUMENTS.get(op, (X,))


def _result(op: str) -> tuple[Tensor, ...]:
    found = OPERATORS[op].function(*_arguments(op))
    return (found,) if isinstance(found, Tensor) else tuple(found)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in _tensors(v)] if isinstance(value, Sequence) else []


def _argument_name(op: str, position: int | None) -> str:
    """What torch calls the argument."""
    assert position is not None
    overload: Any = overload_of(op)
    if overload is not None:
        return str(overload._schema.arguments[position].name)
    function: Any = OPERATORS[op].function
    if hasattr(function, "_schema"):
        return str(function._schema.arguments[position].name)
    return list(inspect.signature(function).parameters)[position]


@each
def test_the_function_is_pure(op: str) -> None:
    given = [t for a in _arguments(op) if not isinstance(a, str) for t in _tensors(a)]
    before = [t.clone() for t in given]
    first, second = _result(op), _result(op)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@each
def test_the_kind_of_work_is_one_that_cost_models_know(op: str) -> None:
    kind = OPERATORS[op].kind
    assert (kind is None) == (op in (*QUANTISERS, GETITEM))
    assert kind is None or kind in get_args(WorkKind)


@each
def test_what_gives_several_tensors_says_so(op: str) -> None:
    result = OPERATORS[op].function(*_arguments(op))
    assert isinstance(result, Tensor) != OPERATORS[op].has_several_outputs


@_where("moves_data")
def test_what_moves_data_makes_no_new_values(op: str) -> None:
    given = {0.0} | {v for a in _arguments(op) for t in _tensors(a) for v in t.flatten().tolist()}
    assert all(given.issuperset(part.flatten().tolist()) for part in _result(op))


@_where("is_identity")
def test_an_identity_gives_what_it_reads(op: str) -> None:
    assert torch.equal(_result(op)[0], X)


@_where("is_clamp")
def test_a_clamp_leaves_values_between_its_bounds_alone(op: str) -> None:
    (result,) = _result(op)
    low, high = result.min(), result.max()
    bounded = OPERATORS[op].function(result, *_arguments(op)[1:])
    assert torch.equal(bounded, result)
    assert torch.equal(result, X.clamp(low, high))


@_where("known_codes")
def test_known_codes_reach_as_far_as_the_result(op: str) -> None:
    scale, zero_point = OPERATORS[op].known_codes or (0.0, 0)
    result = OPERATORS[op].function(100 * X, *_arguments(op)[1:])
    assert isinstance(result, Tensor)
    assert float(result.min()) >= -zero_point * scale
    assert float(result.max()) <= (256 - zero_point) * scale * (1 + 1e-6)


@_where("is_gated")
def test_a_gate_is_the_input_times_a_share_of_it(op: str) -> None:
    share = _result(op)[0] / X
    assert bool(((share >= 0) & (share <= 1)).all())


@_where("weight")
def test_the_weight_is_where_torch_has_it(op: str) -> None:
    assert _argument_name(op, OPERATORS[op].weight) == "weight"


@_where("layer")
def test_a_layer_has_its_arguments_and_axes_where_torch_has_them(op: str) -> None:
    facts = OPERATORS[op]
    layer, weight = facts.layer, _arguments(op)[facts.weight or 0]
    assert layer is not None
    if layer.bias is not None:
        assert _argument_name(op, layer.bias) == "bias"
    if layer.groups is not None:
        assert _argument_name(op, layer.groups) == "groups"
    result = _result(op)[0]
    if layer.kind == "recurrent":
        assert result.shape[layer.channel_dim] == weight.shape[layer.in_axis] == 5
        return
    assert result.shape[layer.channel_dim] == weight.shape[layer.out_axis] == 5
    if layer.kind != "embedding":
        assert _arguments(op)[0].shape[layer.channel_dim] == weight.shape[layer.in_axis]


@_where("sizes")
def test_sizes_are_those_of_the_result(op: str) -> None:
    assert list(_result(op)[0].shape) == _arguments(op)[OPERATORS[op].sizes or 0]


@_where("fill")
def test_what_is_filled_in_is_where_torch_has_it(op: str) -> None:
    assert _argument_name(op, OPERATORS[op].fill) == "value"


@_where("operands")
def test_two_operands_are_the_first_two_arguments(op: str) -> None:
    assert _argument_name(op, 1) in ("other", "exponent", "mat2")


@_where("adds")
def test_a_mask_stays_as_far_from_zero_where_it_is_added(op: str) -> None:
    x, other, *rest = _arguments(op)
    for masked in ((x - 1e9, other, *rest), (x, other - 1e9, *rest)):
        result = OPERATORS[op].function(*masked)
        assert isinstance(result, Tensor)
        assert float(result.abs().min()) > 1e8


def test_tracings_inner_names_stand_for_operators_of_the_table() -> None:
    assert set(TRACED_AS.values()) <= set(OPERATORS)
    assert TRACED_AS.keys().isdisjoint(OPERATORS)


def test_no_other_module_lists_operators() -> None:
    """Names of operators stand in the table, and in what reads a trace or torch's own list."""
    allowed = {f"spaces/graph/{name}.py" for name in ("operators", "names", "core")}
    packages = ("spaces", "compressors", "hardware_models", "search")
    found = {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("aten.")
    }
    assert {path for path in found if not path.startswith("spaces/capture/")} <= allowed
