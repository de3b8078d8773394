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

from paredown.spaces.graph import Graph

Index = Literal["none", "bitmap", "2:4"]
OnnxType = Literal["float32", "int8", "int4", "int2"]


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How one tensor is kept: exact enough to count its bytes without its values.

    `bits` 32 means float32 values; fewer means signed integer codes with one float32 scale per slice
    along `axis`. `kept` counts the stored values: all of them unless `index` is "bitmap" (any subset)
    or "2:4" (two of every four along the input dimension). `onnx_type` is the type of the initialiser
    in the ONNX file.
    """

    shape: tuple[int, ...]
    bits: int = 32
    axis: int = 0
    kept: int
    index: Index = "none"
    onnx_type: OnnxType = "float32"

    @property
    def count(self) -> int:
        """Number of values of the dense tensor."""
        return math.prod(self.shape)

    @property
    def scale_count(self) -> int:
        return self.shape[self.axis] if self.bits < 32 else 0

    @property
    def payload_bytes(self) -> int:
        """Bytes of packed codes (or floats) without index and scales."""
        return math.ceil(self.kept * self.bits / 8)

    @property
    def index_bytes(self) -> int:
        if self.index == "bitmap":
            return math.ceil(self.count / 8)
        if self.index == "2:4":
            return math.ceil(self.kept * 2 / 8)
        return 0

    @property
    def packed_bytes(self) -> int:
        """Bytes of codes, index and scales, as written to model.safetensors."""
        return self.payload_bytes + self.index_bytes + 4 * self.scale_count


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A layer of the compressed model: one node with a weight, and where it came from.

    `layer` is the layer's name in the original model; `part` is 0 for a whole layer or the first
    factor of a low-rank chain, 1 for the second, and so on. `activation_bits` is the width of its input
    activations.
    """

    node: str
    layer: str
    part: int
    weight: str
    bias: str | None
    activation_bits: int


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Graph, layers and storage of a compressed model.

    `storage` has an entry for every tensor the graph reads. Shapes in `graph` are those of the
    compressed model. 8-bit tensors are explicit QDQ nodes in the graph.
    """

    graph: Graph
    operators: tuple[Operator, ...]
    storage: Mapping[str, Storage]
