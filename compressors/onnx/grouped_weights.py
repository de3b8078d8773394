"""Codes of a matrix whose rows have a scale for every group of inputs, as floats of an ONNX file."""

from __future__ import annotations

from onnx import TensorProto

from paredown.compressors.onnx.plan import Payload, PlanBuilder
from paredown.spaces.candidates.blueprint import Storage
from paredown.spaces.structure.quantized_values import NARROW_BLOCK


def narrow_groups(plan: PlanBuilder, storage: Storage, codes: str, scales: Payload) -> str:
    """Through a DequantizeLinear whose blocks become those of the kernel that reads narrow weights.

    Args:
        codes: Name of the codes, transposed: inputs are their first dimension.
        scales: Bytes of the scales (groups, rows).
    """
    rows, groups = storage.scale_shape
    scale = plan.initialiser(TensorProto.FLOAT, (groups, rows), scales)
    return plan.emit("DequantizeLinear", codes, scale, axis=0, block_size=storage.group_size)


def narrow_rows(plan: PlanBuilder, storage: Storage, codes: str, scales: Payload) -> str:
    """The same for one scale a row, spread over blocks when the file is loaded.

    Blocks of 128 take 0.77 of the time of the 32 that ONNX Runtime would choose, in 4 bits, and 0.43 in 2
    (1024 x 1024 at one row, 1.31.1, AVX-512).

    Args:
        codes: As for `narrow_groups`.
        scales: Bytes of the scales (rows,).
    """
    (rows,) = storage.scale_shape
    blocks = -(-storage.count // rows // NARROW_BLOCK)
    scale = plan.initialiser(TensorProto.FLOAT, (1, rows), scales)
    each = plan.emit("Expand", scale, plan.integers((blocks, 1)))
    return plan.emit("DequantizeLinear", codes, each, axis=0, block_size=NARROW_BLOCK)


def folded_groups(
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
