"""A solution packed to the bit, and back: what the database keeps in memory and on disk.

Codes take as many bits as the largest of them needs, masks one bit, and weights outside a mask
nothing. `matrix` is left out, for the factors say all that it says; it is made again from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.compressors.layers.solution import Factor, Solution
from paredown.compressors.low_rank.factorizing import compose
from paredown.compressors.matrix.algebra import to_matrix
from paredown.compressors.rounding.quantize import by_column
from paredown.compressors.statistics.ranges import Range
from paredown.compressors.storage.indices import pack_mask, unpack_mask
from paredown.compressors.storage.packing import pack_codes, unpack_codes
from paredown.compressors.storage.shelf import Record
from paredown.compressors.storage.stored import CPU
from paredown.spaces.structure.model_map import Layer
from paredown.spaces.system.json_values import Json


def pack(solution: Solution) -> Record:
    """The solution without its `matrix`; `unpack` gives every other tensor back bit for bit.

    A negative zero that a mask leaves out comes back as a positive one.
    """
    tensors: dict[str, Tensor] = {}
    factors = [_pack_factor(f, f"{i}", tensors) for i, f in enumerate(solution.factors)]
    facts = {
        "factors": factors,
        "bias": _pack_tensor(solution.bias, "bias", tensors),
        "inner": [asdict(each) for each in solution.inner],
    }
    return Record(tensors=tensors, facts=facts)


def unpack(
    record: Record, layer: Layer, columns: Tensor | None, width: int, device: torch.device = CPU
) -> Solution:
    """The solution that `pack` was given, on `device`.

    Args:
        layer: The dense layer.
        columns: Matrix columns that the first factor reads, None for all of them.
        width: Fan-in of the dense layer.
    """
    factors = tuple(
        _unpack_factor(facts, f"{i}", record.tensors, device)
        for i, facts in enumerate(record.facts["factors"])
    )
    bias = _unpack_tensor(record.facts["bias"], "bias", record.tensors)
    return Solution(
        factors=factors,
        bias=None if bias is None else bias.to(device),
        inner=tuple(Range(**each) for each in record.facts["inner"]),
        matrix=_matrix(factors, layer, columns, width),
    )


def _pack_factor(factor: Factor, name: str, tensors: dict[str, Tensor]) -> dict[str, Json]:
    facts: dict[str, Json] = {}
    mask = factor.mask
    # Every field: one that a solver adds must never be lost on the way.
    for field in fields(factor):
        value = getattr(factor, field.name)
        is_masked = (
            field.name == "values" and mask is not None and not value.masked_fill(mask, 0).any()
        )
        kept = value[mask] if is_masked else value
        packed = _pack_tensor(kept, f"{name}.{field.name}", tensors)
        facts[field.name] = {**packed, "is_masked": True} if packed and is_masked else packed
    return facts


def _unpack_factor(
    facts: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], device: torch.device
) -> Factor:
    found = {key: _unpack_tensor(value, f"{name}.{key}", tensors) for key, value in facts.items()}
    if facts["values"].get("is_masked"):
        mask, kept = found["mask"], found["values"]
        assert mask is not None
        assert kept is not None
        found["values"] = torch.zeros(mask.shape, dtype=kept.dtype).masked_scatter_(mask, kept)
    return Factor(**{key: v if v is None else v.to(device) for key, v in found.items()})  # type: ignore[arg-type]


def _pack_tensor(
    value: Tensor | None, name: str, tensors: dict[str, Tensor]
) -> dict[str, Json] | None:
    """Puts the packed values into `tensors`; what it returns says how to read them."""
    if value is None:
        return None
    value = value.detach().cpu()
    facts: dict[str, Any] = {"shape": list(value.shape)}
    if value.dtype == torch.int8:
        facts["bits"] = _bits(value)
        data = pack_codes(value, facts["bits"])
        tensors[name] = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    elif value.dtype == torch.bool:
        tensors[name] = torch.from_numpy(pack_mask(value))
    else:
        tensors[name] = value.contiguous()
    return facts | {"kind": str(value.dtype).removeprefix("torch.")}


def _unpack_tensor(
    facts: Mapping[str, Any] | None, name: str, tensors: Mapping[str, Tensor]
) -> Tensor | None:
    if facts is None:
        return None
    shape = tuple(facts["shape"])
    if facts["kind"] == "int8":
        count = int(np.prod(shape, dtype=np.int64))
        return unpack_codes(tensors[name].numpy(), facts["bits"], count).reshape(shape)
    if facts["kind"] == "bool":
        return unpack_mask(tensors[name].numpy(), shape)
    return tensors[name]


def _bits(codes: Tensor) -> int:
    """Bits of the narrowest field that holds every code, 1 to 8."""
    if bool((codes.abs() == 1).all()):
        return 1
    low, high = (int(v) for v in codes.aminmax())
    return max(2, 1 + max(high, -low - 1).bit_length())


def _matrix(
    factors: tuple[Factor, ...], layer: Layer, columns: Tensor | None, width: int
) -> Tensor:
    """What the factors stand for, (out kept, fan-in of the dense layer), removed columns zero."""
    matrix = compose([_dense(factor, layer) for factor in factors])
    if columns is None:
        return matrix
    full = matrix.new_zeros(len(matrix), width)
    full[:, columns] = matrix
    return full


def _dense(factor: Factor, layer: Layer) -> Tensor:
    shape = tuple(factor.values.shape)
    # A narrowed depthwise layer has as many groups as channels are left.
    groups = shape[0] if layer.is_depthwise else layer.groups
    matrix = to_matrix(factor.values, replace(layer, weight_shape=shape, groups=groups))
    return (
        matrix
        if factor.scale is None
        else matrix.float() * by_column(factor.scale, matrix.shape[1])
    )
