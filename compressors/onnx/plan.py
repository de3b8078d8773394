"""The structure of an ONNX file before its bytes exist: nodes, initialisers, inputs and outputs.

One plan is drawn from a blueprint. Filled with tensors it is the model; counted field by field it
is the size of the file. Nothing that depends on a tensor's values is ever part of the structure.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from onnx import TensorProto

from paredown.compressors.storage.packing import tensor_bytes
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import ITEM_BYTES
from paredown.spaces.system.errors import ParedownError

PRODUCER = "paredown"

RUNTIME_DOMAIN = "com.microsoft"
"""Domain of ONNX Runtime's own operators, all of version 1."""
_RUNTIME_OPERATORS = frozenset({"DynamicQuantizeLSTM", "NhwcMaxPool"})

Attribute = int | float | str | tuple[int, ...] | tuple[str, ...]
Payload = Callable[[Mapping[str, StoredTensor]], bytes]

_BITS: dict[int, int] = {
    TensorProto.INT2: 2,
    TensorProto.INT4: 4,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
}
_TYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int32": TensorProto.INT32,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "float64": TensorProto.DOUBLE,
}
_BITS |= {_TYPES[name]: 8 * size for name, size in ITEM_BYTES.items()}
_DIGITS = string.ascii_letters + string.digits


class ExportError(ParedownError):
    """A model cannot be written as asked."""


def onnx_type(dtype: str) -> int:
    """The ONNX type of a type by its torch name.

    Raises:
        ExportError: ONNX has none, or ONNX Runtime computes nothing with it.
    """
    if dtype not in _TYPES:
        raise ExportError(
            f"values of type {dtype} have no ONNX type; use one of {', '.join(_TYPES)}"
        )
    return _TYPES[dtype]


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """One ONNX operator; an attribute's type follows from its Python type."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()

    @property
    def domain(self) -> str:
        """Of the operator: "" for ONNX's own."""
        return RUNTIME_DOMAIN if self.op_type in _RUNTIME_OPERATORS else ""


@dataclass(frozen=True, kw_only=True)
class Initialiser:
    """A tensor of the file: type and shape now, bytes when the stored tensors are there."""

    name: str
    data_type: int
    dims: tuple[int, ...]
    payload: Payload

    @property
    def payload_bytes(self) -> int:
        """Bytes of the values in the file, packed to the bit, rounded up."""
        return math.ceil(math.prod(self.dims) * _BITS[self.data_type] / 8)


@dataclass(frozen=True)
class Value:
    """An input or output of the file; a dimension that has a name may have any size."""

    name: str
    data_type: int
    dims: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything of an ONNX file but the bytes of its initialisers.

    `usual_sizes` are those of free axes by name, which the file keeps as metadata: it is timed at them.
    """

    nodes: tuple[OnnxNode, ...]
    initialisers: tuple[Initialiser, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    usual_sizes: tuple[tuple[str, int], ...] = ()

    @property
    def opset(self) -> int:
        """21 has 4-bit integers; 2-bit integers came with 25."""
        return 25 if self._has_int2 else 21

    @property
    def ir_version(self) -> int:
        """ONNX IR version of the file: 13 with 2-bit integers, otherwise 10."""
        return 13 if self._has_int2 else 10

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of operators beside ONNX's own."""
        return tuple(dict.fromkeys(node.domain for node in self.nodes if node.domain))

    @property
    def _has_int2(self) -> bool:
        return any(i.data_type == TensorProto.INT2 for i in self.initialisers)


@dataclass
class PlanBuilder:
    """Collects nodes and initialisers under the shortest free names."""

    taken: frozenset[str]
    nodes: list[OnnxNode] = field(default_factory=list)
    initialisers: list[Initialiser] = field(default_factory=list)
    _constants: dict[tuple[int, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _made: dict[str, str] = field(default_factory=dict)
    _names: Iterator[str] | None = None

    def new_name(self) -> str:
        """The shortest name not yet used."""
        if self._names is None:
            self._names = _short_names(self.taken)
        return next(self._names)

    def emit(self, op_type: str, *inputs: str, **attributes: Attribute) -> str:
        """Adds a node with one output and returns the output's name."""
        return self.emit_many(op_type, inputs, 1, **attributes)[0]

    def emit_many(
        self, op_type: str, inputs: tuple[str, ...], outputs: int, **attributes: Attribute
    ) -> tuple[str, ...]:
        """Adds a node and returns its outputs' names."""
        names = tuple(self.new_name() for _ in range(outputs))
        self.nodes.append(
            OnnxNode(
                op_type=op_type,
                inputs=inputs,
                outputs=names,
                attributes=tuple(attributes.items()),
            )
        )
        return names

    def initialiser(self, data_type: int, dims: tuple[int, ...], payload: Payload) -> str:
        """Adds an initialiser and returns its name."""
        name = self.new_name()
        self.initialisers.append(
            Initialiser(name=name, data_type=data_type, dims=dims, payload=payload)
        )
        return name

    def once(self, key: str, make: Callable[[], str]) -> str:
        """What `make` gave when it was first asked for under this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def integers(self, values: tuple[int, ...]) -> str:
        """A constant list of int64: a shape, axes or sizes; equal ones are stored once."""
        return self._constant(TensorProto.INT64, (len(values),), np.asarray(values, "<i8"))

    def integer(self, value: int) -> str:
        """A constant int64 scalar; equal ones are stored once."""
        return self._constant(TensorProto.INT64, (), np.asarray(value, "<i8"))

    def floats(self, values: np.ndarray | float) -> str:
        """A constant of the graph's structure, not of its weights, in float32."""
        array = np.asarray(values, "<f4")
        return self._constant(TensorProto.FLOAT, array.shape, array)

    def number(self, value: float, dtype: str) -> str:
        """One number as a constant of a type by its torch name."""
        data = tensor_bytes(torch.tensor(value, dtype=getattr(torch, dtype)))
        return self._constant(onnx_type(dtype), (), data)

    def _constant(self, data_type: int, dims: tuple[int, ...], values: np.ndarray | bytes) -> str:
        data = values if isinstance(values, bytes) else values.tobytes()
        key = (data_type, dims, data)
        if key not in self._constants:
            self._constants[key] = self.initialiser(data_type, dims, lambda _: data)
        return self._constants[key]


def _short_names(taken: frozenset[str]) -> Iterator[str]:
    names = list(_DIGITS)
    while True:
        yield from (name for name in names if name not in taken)
        names = [first + rest for first in _DIGITS for rest in names]
