"""Turns graph values into ONNX values: floats, codes and stored tensors, made when first read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from paredown.compressors.models.codes import codes_source, ends_in_codes
from paredown.compressors.onnx.free_sizes import FreeSizes
from paredown.compressors.onnx.payloads import dense_bytes, scales_of
from paredown.compressors.onnx.plan import ExportError, OnnxNode, PlanBuilder, onnx_type
from paredown.compressors.onnx.weights import Reading, Weights
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Storage
from paredown.spaces.graph.graph import Arg, Graph, Node, Ref


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
    _converted: dict[tuple[str, str], str] = field(default_factory=dict)
    _kernels: dict[str, str] = field(default_factory=dict)
    weights: Weights = field(init=False)

    def __post_init__(self) -> None:
        self.weights = Weights(self.storage, self.plan)

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

    def put_kernel(self, node: Node, name: str) -> None:
        """Records what the operator for `node` itself gives, where the node's value is made of it."""
        self._kernels[node.name] = name

    def several(self, arg: Ref) -> tuple[str, ...]:
        """The outputs of an operator with several."""
        return self._several[arg.name][0]

    def pick(self, node: Node) -> None:
        """Records one output of an operator with several."""
        names, codes = self._several[node.args[0].name]
        self.put(node, names[node.args[1]], codes)

    def put_codes(self, node: Node) -> None:
        """Quantises; codes that only moved since they were made stay, if that is what they are to be."""
        found = self.codes(node.args[0])
        source = codes_source(self.graph, node.args[0].name)
        if found is None or (source is not None and source.args[1:] != node.args[1:]):
            scale, zero_point = _parameters(self.plan, node)
            found = (
                self.plan.emit("QuantizeLinear", self.value(node.args[0]), scale, zero_point),
                Codes(scale, zero_point),
            )
        self.put(node, *found)

    def weight(
        self,
        arg: Arg,
        transposed: bool = False,
        reading: Reading = "folded",
        zero_point: bool = False,
    ) -> str:
        """A value of the graph, or a stored tensor as `Weights.read` gives it."""
        if arg.name in self.graph.values:
            return self.value(arg)
        return self.weights.read(arg.name, transposed, reading, zero_point)

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

    def is_read_transposed(self, weight: Ref) -> bool:
        """Whether a weight of several operators, one of them a product, lies as products read it.

        The file holds it once, so whatever else reads it, a look-up or a Gemm, does so too.
        """
        readers = self.graph.users[weight.name]
        return len(readers) > 1 and any(node.facts.kind == "linear" for node in readers)

    def reshaped(self, arg: Ref, dims: tuple[int, ...]) -> str:
        """A stored float tensor under another shape."""
        return self.plan.initialiser(TensorProto.FLOAT, dims, dense_bytes(arg.name, False))

    def names(self, name: str) -> frozenset[str]:
        """ONNX names that hold a value or stored tensor: floats, codes, and what they are made of.

        A weight's codes are among them, read through its DequantizeLinear.
        """
        found = {
            self._floats.get(name),
            self._coded.get(name, (None,))[0],
            self._kernels.get(name),
        }
        found |= self.weights.names(name)
        sources = [
            n.inputs[0] for n in self.plan.nodes if found & {*n.outputs} and _reads_codes(n)
        ]
        return frozenset(n for n in (*found, *sources) if n is not None)

    def _as_floats(self, name: str) -> str:
        if name in self._coded:
            codes, how = self._coded[name]
            return self.plan.emit("DequantizeLinear", codes, how.scale, how.zero_point)
        return self.weight(Ref(name))


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
