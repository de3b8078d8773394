"""The structure of a compressed model before any of its tensors exists.

A `Blueprint` is what a candidate makes of a graph: channels gone, low-rank layers split, dropped blocks
bypassed, 8-bit tensors marked, and for every stored tensor its exact format. Work and bytes are
read from it in milliseconds; compressors fill it with tensors; the exporter writes it down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from paredown.spaces.candidates.candidate import Ranges
from paredown.spaces.candidates.scale_groups import group_count
from paredown.spaces.candidates.zeros import BLOCK
from paredown.spaces.graph.graph import Graph

Index = Literal["none", "bitmap", "csr", "2:4", "block"]
OnnxType = Literal["float32", "int8", "int4", "int2"]

ITEM_BYTES: Mapping[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}
"""Bytes of one value, by every type that a stored tensor may have."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How one tensor is kept: exact enough to count its bytes without its values.

    `bits` 32 means values as they are, of type `dtype` (its torch name); fewer means signed integer
    codes with one float32 scale per slice
    along `axis`, the rows, or one for every `group_size` columns of a row where that is not 0. `kept`
    counts the stored values: all of them unless `index` says which: "bitmap" (any of them, a bit each),
    "csr" (any of them: a count for each row and the column of each value, packed to the bit), "2:4" (two
    of every four columns of a row, two bits each) or "block" (whole blocks of columns, a bit a block).
    `onnx_type` is the type of the initialiser in the ONNX file.
    """

    shape: tuple[int, ...]
    bits: int = 32
    axis: int = 0
    kept: int
    index: Index = "none"
    onnx_type: OnnxType = "float32"
    group_size: int = 0
    dtype: str = "float32"

    @property
    def count(self) -> int:
        """Number of values of the dense tensor."""
        return math.prod(self.shape)

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """(rows,), or (rows, groups of columns); floats have no scale: (0,)."""
        if self.bits == 32:
            return (0,)
        rows = self.shape[self.axis]
        if not self.group_size:
            return (rows,)
        return rows, group_count(self.count // max(1, rows), self.group_size)

    @property
    def scale_count(self) -> int:
        """Number of scales; 0 for floats."""
        return math.prod(self.scale_shape)

    @property
    def fits_integer_kernels(self) -> bool:
        """Whether kernels on 8-bit activations can read it: codes with one scale a row."""
        return self.onnx_type != "float32" and not self.group_size

    @property
    def stays_float(self) -> bool:
        """Whether codes are multiplied as floats even by what reads 8-bit activations."""
        return self.onnx_type != "float32" and bool(self.group_size)

    @property
    def payload_bytes(self) -> int:
        """Bytes of packed codes (or of values as they are) without index and scales."""
        if self.bits == 32:
            return self.kept * ITEM_BYTES[self.dtype]
        return math.ceil(self.kept * self.bits / 8)

    @property
    def index_bytes(self) -> int:
        """Bytes of the index that says which values are stored; 0 where all are."""
        rows = self.shape[self.axis] if self.shape else 1
        columns = self.count // max(1, rows)
        bits = {
            "none": 0,
            "bitmap": self.count,
            "csr": rows * field_bits(columns + 1) + self.kept * field_bits(columns),
            "2:4": self.kept * 2,
            "block": rows * (columns // BLOCK),
        }
        return math.ceil(bits[self.index] / 8)

    @property
    def packed_bytes(self) -> int:
        """Bytes of codes, index and scales, as written to model.safetensors."""
        return self.payload_bytes + self.index_bytes + 4 * self.scale_count


def field_bits(values: int) -> int:
    """Bits of a field that distinguishes so many values.

    >>> field_bits(144)
    8
    """
    return (values - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A layer of the compressed model: one node with a weight, and where it came from.

    `layer` is the layer's name in the original model; `part` is 0 for a whole layer or the first
    factor of a low-rank chain, 1 for the second, and so on. `activation_bits` is the width of its input
    activations, and `ranges` where their range comes from if they are 8-bit codes.
    """

    node: str
    layer: str
    part: int
    weight: str
    bias: str | None
    activation_bits: int
    ranges: Ranges = "static"


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Graph, layers and storage of a compressed model.

    `storage` has an entry for every tensor the graph reads. Shapes in `graph` are those of the
    compressed model. 8-bit tensors are explicit nodes in the graph: `functions.QDQ`, `DYNAMIC_QDQ`.
    """

    graph: Graph
    operators: tuple[Operator, ...]
    storage: Mapping[str, Storage]
