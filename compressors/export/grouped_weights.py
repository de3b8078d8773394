"""Codes of a matrix whose rows have a scale for every group of inputs, as floats of an ONNX file."""

from __future__ import annotations

from onnx import TensorProto

from paredown.compressors.export.plan import Payload, PlanBuilder
from paredown.spaces.blueprint import Storage


def narrow_groups(plan: PlanBuilder, storage: Storage, codes: str, scales: Payload) -> str:
    """Through a DequantizeLinear whose blocks become those of the kernel that reads narrow weights.

    Args:
        codes: Name of the codes, transposed: inputs are their first dimension.
        scales: Bytes of the scales (groups, rows).
    """
    rows, groups = storage.scale_shape
    scale = plan.initialiser(TensorProto.FLOAT, (groups, rows), scales)
    return plan.emit("DequantizeLinear", codes, scale, axis=0, block_size=storage.group_size)


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
