"""Stored tensors in an ONNX file: one initialiser each, and the operators that read its codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from onnx import TensorProto

from paredown.compressors.onnx.payloads import code_bytes, dense_bytes, scale_bytes
from paredown.compressors.onnx.plan import ExportError, Payload, PlanBuilder, onnx_type
from paredown.spaces.candidates.blueprint import Storage
from paredown.spaces.structure.quantized_values import NARROW_BLOCK

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


@dataclass
class Weights:
    """What has been written of stored tensors; whatever reads one of them again shares it."""

    storage: Mapping[str, Storage]
    plan: PlanBuilder
    _read: dict[tuple[str, bool, Reading, bool], str] = field(default_factory=dict)
    _held: dict[tuple[str, bool], str] = field(default_factory=dict)
    _scales: dict[tuple[str, bool, tuple[int, ...]], str] = field(default_factory=dict)

    def read(
        self,
        name: str,
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
        if not self._has_codes(name):
            return self._values(name, transposed)
        key = (name, transposed, reading, zero_point)
        if key not in self._read:
            self._read[key] = self._widened(*key)
        return self._read[key]

    def rows(self, name: str, indices: str, rank: int, transposed: bool) -> str:
        """Rows of a table, picked before they are scaled: all of it is never there as floats.

        Args:
            indices: An ONNX value of integers with `rank` dimensions.
            transposed: Whether the table lies as (width, rows) in the file.
        """
        axis, storage = int(transposed), self.storage[name]
        table = self.read(name, transposed, "bare")
        found = self._picked(table, indices, axis)
        if self._has_codes(name):
            found = self.plan.emit("Cast", found, to=int(TensorProto.FLOAT))
            scale = self.scales(name) if storage.axis else self._row_scales(name, indices, axis)
            found = self.plan.emit("Mul", found, scale)
        if not transposed:
            return found
        return self.plan.emit("Transpose", found, perm=(*range(1, rank + 1), 0))

    def scales(self, name: str, dims: tuple[int, ...] = (), transposed: bool = False) -> str:
        """The scales of a stored tensor, in their own shape or another."""
        dims = dims or self.storage[name].scale_shape
        key = (name, transposed, dims)
        if key not in self._scales:
            payload = scale_bytes(name, transposed)
            self._scales[key] = self.plan.initialiser(TensorProto.FLOAT, dims, payload)
        return self._scales[key]

    def names(self, name: str) -> frozenset[str]:
        """ONNX names of a stored tensor: its initialiser, and what is made of it."""
        found = {onnx for key, onnx in self._held.items() if key[0] == name}
        return frozenset(found | {onnx for key, onnx in self._read.items() if key[0] == name})

    def _has_codes(self, name: str) -> bool:
        storage = self.storage[name]
        return storage.bits < 32 and storage.onnx_type != "float32"

    def _picked(self, table: str, indices: str, axis: int) -> str:
        return self.plan.emit("Gather", table, indices, **({"axis": axis} if axis else {}))

    def _row_scales(self, name: str, indices: str, axis: int) -> str:
        """Scales of the picked rows, which broadcast against their codes."""
        storage = self.storage[name]
        rows = storage.shape[0]
        if not storage.group_size:
            return self._picked(self.scales(name, (1, rows) if axis else (rows, 1)), indices, axis)
        dims = storage.scale_shape[::-1] if axis else storage.scale_shape
        each = self._picked(self.scales(name, dims, transposed=bool(axis)), indices, axis)
        of_column = tuple(column // storage.group_size for column in range(storage.shape[1]))
        return self.plan.emit(
            "Gather", each, self.plan.integers(of_column), axis=0 if axis else -1
        )

    def _values(self, name: str, transposed: bool) -> str:
        """The initialiser of a tensor: codes where it has them in the file, else values."""
        key = (name, transposed)
        if key not in self._held:
            self._held[key] = self._initialiser(name, transposed)
        return self._held[key]

    def _initialiser(self, name: str, transposed: bool) -> str:
        storage = self.storage[name]
        dims = storage.shape
        if transposed:
            dims = (*dims[:-2], dims[-1], dims[-2])
        if not self._has_codes(name):
            kind = onnx_type(storage.dtype)
            return self.plan.initialiser(kind, dims, dense_bytes(name, transposed))
        bits = _CONTAINER_BITS[storage.onnx_type]
        _check_container(name, storage, bits)
        kind = _TENSOR_TYPES[storage.onnx_type]
        return self.plan.initialiser(kind, dims, code_bytes(name, transposed, bits))

    def _widened(self, name: str, transposed: bool, reading: Reading, zero_point: bool) -> str:
        storage = self.storage[name]
        last = len(storage.shape) - 1
        axis = storage.axis
        if transposed:
            axis = {last: last - 1, last - 1: last}.get(axis, axis)
        codes = self._values(name, transposed)
        if reading == "bare":
            return self._as_int8(codes, storage)
        if storage.group_size:
            scales = scale_bytes(name, transposed)
            if reading == "narrow":
                return _narrow_groups(self.plan, storage, codes, scales)
            return _folded_groups(self.plan, storage, codes, scales, transposed)
        count = storage.shape[storage.axis]
        if reading == "folded":
            scale = self.scales(name, (count, *(1,) * (last - axis)))
            floats = self.plan.emit("Cast", codes, to=int(TensorProto.FLOAT))
            return self.plan.emit("Mul", floats, scale)
        if reading == "narrow":
            return _narrow_rows(self.plan, storage, codes, scale_bytes(name))
        inputs = [self._as_int8(codes, storage), self.scales(name)]
        if zero_point:
            zeros = self.plan.initialiser(TensorProto.INT8, (count,), lambda _: bytes(count))
            inputs.append(zeros)
        attributes = {} if axis == 1 else {"axis": axis}  # 1 is the standard's default
        return self.plan.emit("DequantizeLinear", *inputs, **attributes)

    def _as_int8(self, codes: str, storage: Storage) -> str:
        if storage.onnx_type == "int8":
            return codes
        return self.plan.emit("Cast", codes, to=int(TensorProto.INT8))


def _check_container(name: str, storage: Storage, bits: int) -> None:
    if storage.bits > bits:
        raise ExportError(
            f"tensor {name!r}: codes of {storage.bits} bits do not fit into {storage.onnx_type}; "
            "choose a wider container"
        )


def _narrow_groups(plan: PlanBuilder, storage: Storage, codes: str, scales: Payload) -> str:
    """Through a DequantizeLinear whose blocks become those of the kernel that reads narrow weights.

    Args:
        codes: Name of the codes, transposed: inputs are their first dimension.
        scales: Bytes of the scales (groups, rows).
    """
    rows, groups = storage.scale_shape
    scale = plan.initialiser(TensorProto.FLOAT, (groups, rows), scales)
    return plan.emit("DequantizeLinear", codes, scale, axis=0, block_size=storage.group_size)


def _narrow_rows(plan: PlanBuilder, storage: Storage, codes: str, scales: Payload) -> str:
    """The same for one scale a row, spread over blocks when the file is loaded.

    Blocks of 128 take 0.77 of the time of the 32 that ONNX Runtime would choose, in 4 bits, and 0.43 in 2
    (1024 x 1024 at one row, 1.31.1, AVX-512).

    Args:
        codes: As for `_narrow_groups`.
        scales: Bytes of the scales (rows,).
    """
    (rows,) = storage.scale_shape
    blocks = -(-storage.count // rows // NARROW_BLOCK)
    scale = plan.initialiser(TensorProto.FLOAT, (1, rows), scales)
    each = plan.emit("Expand", scale, plan.integers((blocks, 1)))
    return plan.emit("DequantizeLinear", codes, each, axis=0, block_size=NARROW_BLOCK)


def _folded_groups(
    plan: PlanBuilder, storage: Storage, codes: str, scales: Payload, transposed: bool
) -> str:
    """By operators on constants, gone before the first run: scales spread over columns, and a Mul.

    Args:
        codes: Name of the codes, (rows, inputs) or `transposed`.
        scales: Bytes of the scales, (rows, groups) or transposed alike.
    """
    size = storage.group_size
    rows, groups = storage.scale_shape
    columns = storage.count // rows
    apart = (groups, 1, rows) if transposed else (rows, groups, 1)
    repeats = (1, size, 1) if transposed else (1, 1, size)
    flat = (-1, rows) if transposed else (rows, -1)
    scale = plan.initialiser(TensorProto.FLOAT, apart, scales)
    each = plan.emit("Expand", scale, plan.integers(repeats))
    each = plan.emit("Reshape", each, plan.integers(flat))
    if columns < groups * size:
        axis = 0 if transposed else 1
        bounds = [plan.integers((value,)) for value in (0, columns, axis)]
        each = plan.emit("Slice", each, *bounds)
    floats = plan.emit("Cast", codes, to=int(TensorProto.FLOAT))
    return plan.emit("Mul", floats, each)
