"""ONNX lowerings of every other operator, by onnxscript's functions for ATen through `torch.onnx`."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from onnx import AttributeProto, TensorProto, helper, inliner, numpy_helper
from torch import Tensor, nn

from paredown.compressors.onnx.arithmetic import unsupported
from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import Attribute, ExportError
from paredown.spaces.graph.graph import Arg, Node, Ref, call, resolved

_OPSET = 21
_READ: Mapping[int, Callable[[AttributeProto], Attribute]] = {
    AttributeProto.INT: lambda a: a.i,
    AttributeProto.FLOAT: lambda a: a.f,
    AttributeProto.STRING: lambda a: a.s.decode(),
    AttributeProto.INTS: lambda a: tuple(a.ints),
}


def by_library(e: Emitter, node: Node) -> None:
    """Adds the nodes that the library writes for an operator.

    Raises:
        ExportError: The library has no function for it, or needs what a plan cannot hold.
    """
    names = tuple(dict.fromkeys(node.inputs))
    values = [Ref(name) for name in names]
    shapes = tuple((e.shape(v), e.dtype(v)) for v in values)
    args = e.sizes.fixed(node)
    try:
        model = _exported(node.op, args, names, shapes, bool(e.graph.free))
    except Exception as error:  # the exporter raises many types for one fact
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ExportError(
            f"{node.op} (value {node.name!r}) has no ONNX lowering: {first}; write that part of the "
            "model with other operators"
        ) from error
    known = {i.name: e.value(v) for i, v in zip(model.graph.input, values, strict=True)}
    for tensor in model.graph.initializer:
        known[tensor.name] = _initialiser(e, tensor)
    for each in model.graph.node:
        if each.op_type == "Constant":
            known[each.output[0]] = _initialiser(e, _constant(each))
            continue
        inputs = tuple(known[name] if name else "" for name in each.input)
        if each.op_type == "ConstantOfShape":  # its attribute would be a tensor
            number = e.plan.emit("Squeeze", _initialiser(e, _constant(each)))
            known[each.output[0]] = e.plan.emit("Expand", number, *inputs)
            continue
        attributes = {a.name: _attribute(node, a) for a in each.attribute}
        made = e.plan.emit_many(each.op_type, inputs, len(each.output), **attributes)
        known.update(zip(each.output, made, strict=True))
    outputs = tuple(known[output.name] for output in model.graph.output)
    if node.shape == () and len(outputs) > 1:
        e.put_several(node, outputs, None)
    else:
        e.put(node, outputs[0])


class _Alone(nn.Module):
    """One operator with its arguments, as a module of the values that it reads."""

    def __init__(self, node: Node, names: tuple[str, ...]) -> None:
        super().__init__()
        self._node, self._names = node, names

    def forward(self, *values: Tensor) -> object:
        """What the operator gives."""
        named = dict(zip(self._names, values, strict=True))
        return call(self._node, resolved(self._node.args, named))


@functools.lru_cache(maxsize=512)
def _exported(
    op: str,
    args: tuple[Arg, ...],
    names: tuple[str, ...],
    shapes: tuple[tuple[tuple[int, ...], str], ...],
    free: bool,
) -> onnx.ModelProto:
    module = _Alone(Node(name="y", op=op, args=args, shape=()), names)
    example = tuple(torch.zeros(shape, dtype=getattr(torch, dtype)) for shape, dtype in shapes)
    with warnings.catch_warnings(), torch.no_grad(), _quiet():
        warnings.simplefilter("ignore")
        sizes = [dict.fromkeys(range(x.dim()), torch.export.Dim.AUTO) for x in example]
        dynamic = {"values": tuple(sizes)} if free else None
        program = torch.export.export(module, example, dynamic_shapes=dynamic)
        made = torch.onnx.export(program, dynamo=True, opset_version=_OPSET, verbose=False)
    assert made is not None
    return inliner.inline_local_functions(made.model_proto)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes, which speak of files of its own."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _initialiser(e: Emitter, tensor: TensorProto) -> str:
    data = numpy_helper.to_array(tensor).tobytes()
    return e.plan.initialiser(tensor.data_type, tuple(tensor.dims), lambda _: data)


def _constant(node: onnx.NodeProto) -> TensorProto:
    (attribute,) = node.attribute
    if attribute.name == "value":
        return attribute.t
    values = helper.get_attribute_value(attribute)
    kind = np.float32 if "float" in attribute.name else np.int64
    return numpy_helper.from_array(np.asarray(values, kind))


def _attribute(node: Node, attribute: AttributeProto) -> Attribute:
    if attribute.type not in _READ:
        raise unsupported(node, f"an attribute {attribute.name} that is a graph or a list")
    return _READ[attribute.type](attribute)
