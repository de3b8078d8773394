"""What was read off a model: layers, channel groups, blocks and segments, and what was left out."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from paredown.spaces.channels.parts import Part
from paredown.spaces.graph.graph import Graph
from paredown.spaces.graph.sizes import Size


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One weight, of which one axis runs over the output channels, and the operators that call it.

    `name` is the module path ("layer1.0.conv1"); `kind` one of conv1d, conv2d, conv_transpose1d,
    conv_transpose2d, linear, recurrent (the matrix over the state), embedding. `nodes` are all its calls
    in execution order: several where a module runs more than once; `lookups` are embeddings that read a
    linear layer's weight as their table. `bias` is the one that all calls share. `out_axis` and `in_axis`
    are the weight's output and input channel dimensions. `macs` counts multiply-accumulates of all calls
    at the graph's batch size. `finds_range` says whether there is an integer kernel that finds the range
    of what the layer reads in every run.
    """

    name: str
    nodes: tuple[str, ...]
    kind: str
    weight: str
    bias: str | None
    weight_shape: tuple[int, ...]
    out_axis: int
    in_axis: int
    groups: int
    macs: int
    finds_range: bool = False
    lookups: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The first call."""
        return self.nodes[0]

    @property
    def row_axis(self) -> int:
        """The weight's dimension of rows, which have scales of their own: outputs, of a table tokens."""
        return 0 if self.kind == "embedding" else self.out_axis

    @property
    def column_axis(self) -> int:
        """The other of the weight's first two dimensions."""
        return 1 - self.row_axis

    @property
    def is_shared(self) -> bool:
        """Whether several operators read the weight."""
        return len(self.nodes) + len(self.lookups) > 1

    @property
    def weight_count(self) -> int:
        """Number of values of the weight; the bias is not counted."""
        count = 1
        for size in self.weight_shape:
            count *= size
        return count

    @property
    def is_product(self) -> bool:
        """Whether its output is one product with what it reads: no look-up, and no steps over time."""
        return self.kind not in ("embedding", "recurrent")

    @property
    def is_depthwise(self) -> bool:
        """Whether each entry on the weight's first axis is a group of its own."""
        return self.groups > 1 and self.groups == self.weight_shape[0]


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels that must shrink together: every producer, follower and consumer is sliced alike.

    `producers` are layers whose outputs are the channels, `consumers` layers that read them. `entries`
    is how many neighbouring outputs of the first producer one channel is: of an attention head several.
    """

    name: str
    channels: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    entries: int = 1


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block that may be skipped: `output` (an addition) then equals `bypass`."""

    name: str
    output: str
    bypass: str
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A contiguous run of nodes that computes at one activation precision."""

    name: str
    nodes: tuple[str, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something the search will not touch, and why."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class BatchPlace:
    """The dimension of a value that grows with the batch, of size outside * batch * inside.

    `outside` and `inside` follow the time axis where that is free.
    """

    axis: int
    outside: int | Size
    inside: int | Size

    def rows(self, batch: int) -> int | Size:
        """Steps of the dimension that so many samples have together, not counting `outside`."""
        if isinstance(self.inside, int):
            return batch * self.inside
        return self.inside if batch == 1 else Size(("*", batch, self.inside.term))


@dataclass(frozen=True, kw_only=True)
class ModelMap:
    """Everything the space is drawn from.

    `tensor_parts` maps (tensor name, dimension) to its channels as parts, in order; `value_parts` maps a
    value (node or input) to its channel dimension and parts. Only groups in `groups` appear in parts.
    `tensor_shapes` holds the shape of every tensor the graph reads, `tensor_dtypes` the type of those
    that are not float32 by its torch name, `batch_places` the linear layers (by node) that read values
    whose batch is not in front, and where it is. `masked` are sums with a mask, which are never 8-bit
    codes.
    """

    graph: Graph
    layers: tuple[Layer, ...]
    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]
    segments: tuple[Segment, ...]
    tensor_parts: Mapping[tuple[str, int], tuple[Part, ...]]
    value_parts: Mapping[str, tuple[int, tuple[Part, ...]]]
    left_out: tuple[LeftOut, ...]
    tensor_shapes: Mapping[str, tuple[int, ...]]
    batch_places: Mapping[str, BatchPlace] = field(default_factory=dict)
    tensor_dtypes: Mapping[str, str] = field(default_factory=dict)
    masked: frozenset[str] = frozenset()

    @functools.cached_property
    def layer_by_name(self) -> Mapping[str, Layer]:
        """The layers by module path."""
        return {layer.name: layer for layer in self.layers}

    @functools.cached_property
    def layer_by_node(self) -> Mapping[str, Layer]:
        """The layers by the names of their nodes, look-ups too."""
        return {node: x for x in self.layers for node in (*x.nodes, *x.lookups)}

    @functools.cached_property
    def partners(self) -> Mapping[str, str]:
        """Of both matrices of a recurrent layer the other's name: files hold them as one operator."""
        found: dict[str, str] = {}
        for layer in self.layers:
            gates = self.graph.by_name[layer.node].ref(0) if layer.kind == "recurrent" else ""
            if gates in self.layer_by_node:
                other = self.layer_by_node[gates].name
                found |= {layer.name: other, other: layer.name}
        return found

    @functools.cached_property
    def segment_of_node(self) -> Mapping[str, str]:
        """The name of the segment that each node belongs to, by node name."""
        return {node: segment.name for segment in self.segments for node in segment.nodes}
