"""ONNX lowerings of recurrent layers: gates and steps become one operator of the runtime.

ONNX orders gates its own way, an LSTM's as input, output, forget, cell, and a GRU's as update, reset,
new. Rows are put in order by operators on constants, which ONNX Runtime computes once, when it loads the
model.

Where both matrices are codes and ranges are found in the run, the operator is DynamicQuantizeLSTM. On one
thread it rounds all that it reads by one range, and its state by one range at each step, the whole batch
together, as `lstm_steps` does (equal to 1e-7 with ONNX Runtime 1.31). On several threads it cuts the
batch, and each part has ranges of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from paredown.compressors.onnx.arithmetic import Lowering
from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import Attribute
from paredown.spaces.graph.graph import Arg, Node, Ref
from paredown.spaces.graph.recurrent import RNN_RELU

DYNAMIC_LSTM = "DynamicQuantizeLSTM"
"""ONNX Runtime's own operator for an LSTM of 8-bit weights that finds ranges in the run."""

_ORDERS = {"LSTM": (0, 3, 1, 2), DYNAMIC_LSTM: (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def _gates(e: Emitter, node: Node) -> None:
    """Nothing: the operator of the steps that read them computes them too."""


def _lstm(e: Emitter, node: Node) -> None:
    gates, hidden, cell, weight, bias, reverse, rows = node.args
    op_type = "LSTM" if rows is None else DYNAMIC_LSTM
    x, over_inputs, first = e.graph.by_name[gates.name].args
    terms = _biases(e, op_type, over_inputs, (first, bias))
    starts = _starts(e, (hidden, cell))
    if rows is None:
        inputs = (e.value(x), *(_matrix(e, op_type, w) for w in (over_inputs, weight)), terms)
        inputs = (*inputs, "", *starts)
    else:
        rows_count = e.shape(weight)[0]
        zeros = e.plan.initialiser(TensorProto.INT8, (1, rows_count), lambda _: bytes(rows_count))
        both = (over_inputs, weight)
        codes = (_codes(e, w) for w in both)
        scales = (each for w in both for each in (_scales(e, w), zeros))
        read = e.graph.by_name[x.name].args[0]
        inputs = (e.value(read), *codes, terms, "", *(starts or ("", "")), "", *scales)
    attributes = _attributes(e, node, weight, bool(reverse))
    states, _, last = e.plan.emit_many(op_type, _trimmed(inputs), 3, **attributes)
    e.put_kernel(node, states)
    e.put_several(node, (_squeezed(e, states, 1), _squeezed(e, last, 0)), None)


def _plain(op_type: str) -> Lowering:
    """Of an operator with one state."""

    def _lower(e: Emitter, node: Node) -> None:
        gates, hidden, weight, bias, reverse = node.args
        x, over_inputs, first = e.graph.by_name[gates.name].args
        matrices = (_matrix(e, op_type, w) for w in (over_inputs, weight))
        terms = _biases(e, op_type, over_inputs, (first, bias))
        inputs = (e.value(x), *matrices, terms, "", *_starts(e, (hidden,)))
        attributes = _attributes(e, node, weight, bool(reverse))
        if op_type == "GRU":
            attributes["linear_before_reset"] = 1
        if node.op == RNN_RELU:
            attributes["activations"] = ("Relu",)
        states = e.plan.emit(op_type, *_trimmed(inputs), **attributes)
        e.put(node, _squeezed(e, states, 1))

    return _lower


def _attributes(e: Emitter, node: Node, weight: Ref, reverse: bool) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {"hidden_size": e.shape(weight)[1]}
    if reverse:
        attributes["direction"] = "reverse"
    return attributes


def _starts(e: Emitter, states: Sequence[Arg]) -> tuple[str, ...]:
    """Given states with a direction in front; none where all begin at zero."""
    if all(state is None for state in states):
        return ()
    return tuple("" if s is None else _unsqueezed(e, e.value(s)) for s in states)


def _matrix(e: Emitter, op_type: str, weight: Ref) -> str:
    return _unsqueezed(e, _ordered(e, op_type, e.weight(weight)))


def _codes(e: Emitter, weight: Ref) -> str:
    """Codes as (1, inputs, rows)."""
    rows = _ordered(e, DYNAMIC_LSTM, e.weight(weight, reading="bare"))
    return _unsqueezed(e, e.plan.emit("Transpose", rows, perm=(1, 0)))


def _scales(e: Emitter, weight: Ref) -> str:
    return _unsqueezed(e, _ordered(e, DYNAMIC_LSTM, e.weights.scales(weight.name)))


def _biases(e: Emitter, op_type: str, weight: Ref, biases: Sequence[Arg]) -> str:
    """Both biases one after the other; "" where there are none."""
    if all(bias is None for bias in biases):
        return ""
    terms = [None if bias is None else _ordered(e, op_type, e.value(bias)) for bias in biases]
    rows = (e.shape(weight)[0],)
    ordered = (term or e.plan.emit("ConstantOfShape", e.plan.integers(rows)) for term in terms)
    return _unsqueezed(e, e.plan.emit("Concat", *ordered, axis=0))


def _ordered(e: Emitter, op_type: str, rows: str) -> str:
    """Rows gate by gate in ONNX's order."""
    order = _ORDERS[op_type]
    if len(order) == 1:
        return rows
    gates = e.plan.emit_many("Split", (rows,), len(order), axis=0, num_outputs=len(order))
    return e.plan.emit("Concat", *(gates[gate] for gate in order), axis=0)


def _unsqueezed(e: Emitter, value: str) -> str:
    return e.plan.emit("Unsqueeze", value, e.plan.integers((0,)))


def _squeezed(e: Emitter, value: str, axis: int) -> str:
    return e.plan.emit("Squeeze", value, e.plan.integers((axis,)))


def _trimmed(inputs: Sequence[str]) -> tuple[str, ...]:
    """Without omitted inputs at the end."""
    kept = list(inputs)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


RECURRENT: dict[str, Lowering] = {
    "gates": _gates,
    "lstm": _lstm,
    "gru": _plain("GRU"),
    "rnn": _plain("RNN"),
}
"""Lowerings of recurrent layers."""
