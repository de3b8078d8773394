"""Turns graph values into ONNX values: floats, codes and stored tensors, made when first read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from onnx import TensorProto

from paredown.compressors.models.codes import codes_source, ends_in_codes
from paredown.compressors.onnx.free_sizes import FreeSizes
from paredown.compressors.onnx.grouped_weights import folded_groups, narrow_groups, narrow_rows
from paredown.compressors.onnx.payloads import code_bytes, dense_bytes, scale_bytes, scales_of
from paredown.compressors.onnx.plan import ExportError, OnnxNode, PlanBuilder, onnx_type
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Storage
from paredown.spaces.graph.graph import Arg, Graph, Node, Ref

_TENSOR_TYPES = {
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "int4": TensorProto.INT4,
    "int2": TensorProto.INT2,
}
_CONTAINER_BITS = {"int8": 8, "int4": 4, "int2": 2}

Reading = Literal["folded", "codes", "narrow", "bare"]
"""How a stored integer weight is read. ONNX Runtime computes what depends on constants alone once, when
it loads the model, but never a DequantizeLinear. So "folded" is a Cast and a Mul, gone before the first
run; "codes" widens to int8 by a Cast, gone too, and leaves the DequantizeLinear that integer kernels fuse
with; "bare" gives those int8 codes alone, for a product whose result is scaled; "narrow" leaves the codes
as they are, for the kernel that reads them. Scales of groups of inputs are spread over their columns
first ("folded"), or are that kernel's blocks ("narrow")."""


@dataclass(frozen=True)
class Codes:
    """ONNX names of the scale and zero point that a value's uint8 codes are read with."""

    scale: str
    zero_point: str


@dataclass
class Emitter:
    """What the lowering of one operator reads and writes.

    `value` gives a graph value or stored tensor in its own type or in another, `codes` as uint8 where it
    has codes; `put` records what an operator produced, which must be of the node's type.
    """

    graph: Graph
    storage: Mapping[str, Storage]
    plan: PlanBuilder
    _floats: dict[str, str] = field(default_factory=dict)
    _coded: dict[str, tuple[str, Codes]] = field(default_factory=dict)
    _several: dict[str, tuple[tuple[str, ...], Codes | None]] = field(default_factory=dict)
    _weights: dict[tuple[str, bool, Reading, bool], str] = field(default_factory=dict)
    _converted: dict[tuple[str, str], str] = field(default_factory=dict)

    def shape(self, arg: Arg) -> tuple[int, ...]:
        """Shape of the value or tensor that `arg` refers to."""
        if arg.name in self.graph.values:
            return self.graph.shape_of(arg.name)
        return self.storage[arg.name].shape

    @property
    def sizes(self) -> FreeSizes:
        """What writes sizes that may follow a free axis."""
        return FreeSizes(self.graph, self.plan)

    def shape_as(self, arg: Ref, shape: tuple[int, ...]) -> str:
        """The shape of a value as a list of int64, which is `shape` where no axis is free."""
        is_free = bool(self.graph.free)
        return self.plan.emit("Shape", self.value(arg)) if is_free else self.plan.integers(shape)

    def dtype(self, arg: Ref) -> str:
        """Type of the value or tensor that `arg` refers to, by its torch name."""
        if arg.name in self.graph.values:
            return self.graph.dtype_of(arg.name)
        return self.storage[arg.name].dtype

    def value(self, arg: Arg, dtype: str = "") -> str:
        """The ONNX name of a Ref, or of a number as a constant.

        Args:
            dtype: The type that is wanted, by its torch name; "" leaves a Ref's own, and makes a number
                float32.
        """
        if not isinstance(arg, Ref):
            return self.sizes.number(arg, dtype or "float32")
        if arg.name not in self._floats:
            self._floats[arg.name] = self._as_floats(arg.name)
        found = self._floats[arg.name]
        own = self.dtype(arg)
        return self.cast(found, own, dtype) if dtype else found

    def cast(self, name: str, own: str, dtype: str) -> str:
        """An ONNX value of type `own` in another type; made once."""
        if own == dtype:
            return name
        if (name, dtype) not in self._converted:
            converted = self.plan.emit("Cast", name, to=int(onnx_type(dtype)))
            self._converted[name, dtype] = converted
        return self._converted[name, dtype]

    def optional(self, arg: Arg, dtype: str = "") -> str:
        """As `value`; "" (ONNX's omitted input) where `arg` is None."""
        return "" if arg is None else self.value(arg, dtype)

    def codes(self, arg: Arg) -> tuple[str, Codes] | None:
        """The uint8 codes of a value and how to read them, None where it is float."""
        return self._coded.get(arg.name) if isinstance(arg, Ref) else None

    def moved(self, arg: Arg) -> tuple[str, Codes | None]:
        """What a layout-only operator works on: the codes where there are codes."""
        return self.codes(arg) or (self.value(arg), None)

    def put(self, node: Node, name: str, codes: Codes | None = None) -> None:
        """Records `name` as the output of `node`: codes where `codes` is given."""
        if codes is None:
            self._floats[node.name] = name
        else:
            self._coded[node.name] = (name, codes)

    def put_input(self, name: str) -> None:
        """Records an input of the graph, which keeps its name."""
        self._floats[name] = name

    def put_several(self, node: Node, names: tuple[str, ...], codes: Codes | None) -> None:
        """Records `names` as the outputs of `node`, all with the same `codes` or None."""
        self._several[node.name] = (names, codes)

    def several(self, arg: Ref) -> tuple[str, ...]:
        """The outputs of an operator with several."""
        return self._several[arg.name][0]

    def pick(self, node: Node) -> None:
        """Records one output of an operator with several."""
        names, codes = self._several[node.args[0].name]
        self.put(node, names[node.args[1]], codes)

    def put_codes(self, node: Node) -> None:
        """Quantises; codes that only moved since they were made are the same codes."""
        found = self.codes(node.args[0])
        if found is None:
            scale, zero_point = _parameters(self.plan, node)
            found = (
                self.plan.emit("QuantizeLinear", self.value(node.args[0]), scale, zero_point),
                Codes(scale, zero_point),
            )
        else:
            source = codes_source(self.graph, node.args[0].name)
            if source is not None and source.args[1:] != node.args[1:]:
                raise ExportError(
                    f"value {node.args[0].name!r} was rounded with {source.args[1:]}, moved, and "
                    f"is rounded again with {node.args[1:]}; give both the same parameters"
                )
        self.put(node, *found)

    def weight(
        self,
        arg: Arg,
        transposed: bool = False,
        reading: Reading = "folded",
        zero_point: bool = False,
    ) -> str:
        """A stored tensor dense, codes as float32, or its codes alone where it is read bare.

        Args:
            transposed: Whether the last two dimensions are swapped in the file.
            reading: How codes are read; nothing else depends on it.
            zero_point: Whether zero points are written: some integer kernels fuse only with them.
        """
        if arg.name in self.graph.values:
            return self.value(arg)
        key = (arg.name, transposed, reading, zero_point)
        if key not in self._weights:
            self._weights[key] = self._weight(*key)
        return self._weights[key]

    def convolved(self, node: Node) -> str:
        """The weight of a convolution: as codes only between codes, where an integer kernel may run.

        A folded weight there would not stay what it is: ONNX Runtime rounds float weights between
        codes to 8 bits of its own.
        """
        between = codes_source(self.graph, node.args[0].name) and ends_in_codes(self.graph, node)
        return self.weight(node.args[1], reading="codes" if between else "folded")

    def bias_codes(self, bias: Ref, weight: Ref, quantised: Node) -> str:
        """A bias as int32 in units of s_x * s_w, read through a DequantizeLinear."""
        input_scale = np.float32(quantised.args[1])
        dims = self.storage[bias.name].shape

        def _scale(stored: Mapping[str, StoredTensor]) -> np.ndarray:
            return np.asarray(input_scale * scales_of(stored[weight.name]), "<f4")

        def _codes(stored: Mapping[str, StoredTensor]) -> bytes:
            values = stored[bias.name].dense().numpy().astype(np.float64)
            return np.rint(values / _scale(stored)).astype("<i4").tobytes()

        names = (
            self.plan.initialiser(TensorProto.INT32, dims, _codes),
            self.plan.initialiser(
                TensorProto.FLOAT, dims, lambda stored: _scale(stored).tobytes()
            ),
        )
        return self.plan.emit("DequantizeLinear", *names, axis=0)

    def scales(self, name: str) -> str:
        """The scales of a stored tensor that has one for each row."""
        dims = self.storage[name].scale_shape
        return self.plan.initialiser(TensorProto.FLOAT, dims, scale_bytes(name))

    def reshaped(self, arg: Ref, dims: tuple[int, ...]) -> str:
        """A stored float tensor under another shape."""
        return self.plan.initialiser(TensorProto.FLOAT, dims, dense_bytes(arg.name, False))

    def names(self, name: str) -> frozenset[str]:
        """ONNX names that hold a value or stored tensor: floats, codes, and what they are read from.

        A weight's codes are among them, read through its DequantizeLinear.
        """
        found = {self._floats.get(name), self._coded.get(name, (None,))[0]}
        found |= {onnx for key, onnx in self._weights.items() if key[0] == name}
        sources = [
            n.inputs[0] for n in self.plan.nodes if found & {*n.outputs} and _reads_codes(n)
        ]
        return frozenset(n for n in (*found, *sources) if n is not None)

    def _as_floats(self, name: str) -> str:
        if name in self._coded:
            codes, how = self._coded[name]
            return self.plan.emit("DequantizeLinear", codes, how.scale, how.zero_point)
        return self.weight(Ref(name))

    def _weight(self, name: str, transposed: bool, reading: Reading, zero_point: bool) -> str:
        storage = self.storage[name]
        dims, axis = storage.shape, storage.axis
        if transposed:
            dims = (*dims[:-2], dims[-1], dims[-2])
            axis = {len(dims) - 1: len(dims) - 2, len(dims) - 2: len(dims) - 1}.get(axis, axis)
        if storage.bits == 32 or storage.onnx_type == "float32":
            kind = onnx_type(storage.dtype)
            return self.plan.initialiser(kind, dims, dense_bytes(name, transposed))
        kind = _TENSOR_TYPES[storage.onnx_type]
        bits = _CONTAINER_BITS[storage.onnx_type]
        _check_container(name, storage, bits)
        codes = self.plan.initialiser(kind, dims, code_bytes(name, transposed, bits))
        if storage.group_size:
            scales = scale_bytes(name, transposed)
            if reading == "narrow":
                return narrow_groups(self.plan, storage, codes, scales)
            return folded_groups(self.plan, storage, codes, scales, transposed)
        count = storage.shape[storage.axis]
        if reading == "folded":
            spread = (count, *(1,) * (len(dims) - 1 - axis))
            scale = self.plan.initialiser(TensorProto.FLOAT, spread, scale_bytes(name))
            floats = self.plan.emit("Cast", codes, to=int(TensorProto.FLOAT))
            return self.plan.emit("Mul", floats, scale)
        if reading == "narrow":
            return narrow_rows(self.plan, storage, codes, scale_bytes(name))
        if kind != TensorProto.INT8:
            codes = self.plan.emit("Cast", codes, to=int(TensorProto.INT8))
        if reading == "bare":
            return codes
        scale = self.scales(name)
        inputs = [codes, scale]
        if zero_point:
            zeros = self.plan.initialiser(TensorProto.INT8, (count,), lambda _: bytes(count))
            inputs.append(zeros)
        attributes = {} if axis == 1 else {"axis": axis}  # 1 is the standard's default
        return self.plan.emit("DequantizeLinear", *inputs, **attributes)


def _reads_codes(node: OnnxNode) -> bool:
    return node.op_type == "DequantizeLinear"


def _parameters(plan: PlanBuilder, node: Node) -> tuple[str, str]:
    scale = np.asarray(node.args[1], "<f4").tobytes()
    zero_point = np.asarray(node.args[2], np.uint8).tobytes()
    if tuple(node.args[3:]) != (0, 255):
        raise ExportError(f"node {node.name!r}: codes must be 0..255, got {node.args[3:]}")
    return (
        plan.initialiser(TensorProto.FLOAT, (), lambda _: scale),
        plan.initialiser(TensorProto.UINT8, (), lambda _: zero_point),
    )


def _check_container(name: str, storage: Storage, bits: int) -> None:
    if storage.bits > bits:
        raise ExportError(
            f"tensor {name!r}: codes of {storage.bits} bits do not fit into {storage.onnx_type}; "
            "choose a wider container"
        )
