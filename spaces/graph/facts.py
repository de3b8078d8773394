"""The record of what is known about one operator: how it runs, what it costs, how it is exported.

The defaults are the careful answers: channels stay whole, values are computed in float, and the work
is that of moving data. A record says more only where more has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Result = Tensor | Sequence[Tensor]
"""What an operator gives: a tensor, or several."""

WorkKind = Literal[
    "conv",
    "depthwise_conv",
    "conv_transpose",
    "linear",
    "gates",
    "recurrent",
    "embedding",
    "matmul",
    "attention",
    "add",
    "mul",
    "activation",
    "norm",
    "softmax",
    "pool",
    "resize",
    "concat",
    "move",
    "reshape",
    "quantize",
    "dequantize",
]
"""The work that an operator is to a device; "quantize" and "dequantize" are where codes meet floats."""

ChannelRuleName = Literal[
    "same",
    "binary",
    "spatial",
    "along",
    "per_channel",
    "layer_norm",
    "reduce",
    "concat",
    "view",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "select",
    "unbind",
    "slice",
    "pieces",
    "pick",
    "pad",
    "expand",
    "steps",
    "product",
    "attention",
]


@dataclass(frozen=True)
class ChannelRule:
    """How channels travel through an operator: a rule of `spaces/channels/rules.py` by its name.

    `numbers` are what the rule takes beside the node: dimensions it works on, or positions of arguments.
    """

    name: ChannelRuleName
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class OnnxRename:
    """The ONNX operator that computes the same of the same operands, and attributes it needs."""

    op_type: str
    attributes: tuple[tuple[str, float], ...] = ()


LIBRARY = "library"
"""The lowering of operators that onnxscript writes."""


@dataclass(frozen=True)
class LayerFacts:
    """Where a layer has what a search changes.

    `bias` and `groups` are positions of arguments, None where the operator has no such one.
    `out_axis` is the weight's dimension of outputs, the other of 0 and 1 that of inputs.
    `channel_dim` is the dimension of channels in what the layer reads and writes.
    """

    kind: str
    bias: int | None = 2
    groups: int | None = None
    out_axis: int = 0
    channel_dim: int = 1

    @property
    def in_axis(self) -> int:
        """The weight's dimension of inputs."""
        return 1 - self.out_axis


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """All that is known about one operator.

    Args:
        function: Runs it; a pure function of its arguments, so that a stored graph is safe to run.
        onnx: How it is written to ONNX: renamed, or by a lowering of `compressors/onnx` by its name;
            None where it cannot be written.
        kind: Its work; None where it is none of its own (quantisation, one of several outputs).
        channels: How channels travel; None keeps those that it reads whole.
        operands: How many of the first arguments it computes on; an argument that is a tuple stands
            for all in it.
        weight: Position of the stored tensor that it computes with.
        layer: What a search may change about it; None where that is nothing.
        moves_data: Whether it moves, repeats or selects values and computes none, so that 8-bit codes
            go through unchanged.
        selects: Whether its result holds values of its first argument and no others, as where data is
            moved; but it may read several, or choose by numbers that are computed.
        is_identity: Whether in eval mode it only renames a value; tracing leaves it out.
        has_several_outputs: Whether it gives a tuple, of which `getitem` picks.
        adds: Whether a mask among its operands stays as far from zero in its result.
        sizes: Position of the argument that spells out the sizes of the result.
        fill: Position of the number that new values get.
        is_clamp: Whether it keeps values between bounds, the lower of which is its second argument, or
            zero where it has none; see `clamps_codes`.
        float_gemm_takes: Whether ONNX Runtime 1.31 fuses it into a Gemm of float result before it looks
            for quantised ones: such a linear layer has no integer kernel, whatever it reads.
        integer_kernel: ONNX Runtime's kernel from codes to codes, where it agrees with our simulation
            within a code wherever `benchmarks/fused_kernels.py` looks.
        known_codes: Scale and zero point of a result whose range mathematics knows, whatever
            calibration data showed.
        is_gated: Whether it multiplies its input by a function of it: two kernels, and the input stays
            alive in between.
    """

    function: Callable[..., Result]
    onnx: OnnxRename | str | None
    kind: WorkKind | None = "move"
    channels: ChannelRule | None = None
    operands: int = 1
    weight: int | None = None
    layer: LayerFacts | None = None
    moves_data: bool = False
    selects: bool = False
    is_identity: bool = False
    has_several_outputs: bool = False
    adds: bool = False
    sizes: int | None = None
    fill: int | None = None
    is_clamp: bool = False
    float_gemm_takes: bool = False
    integer_kernel: str | None = None
    known_codes: tuple[float, int] | None = None
    is_gated: bool = False

    @property
    def fuses_into_layer(self) -> bool:
        """Whether runtimes compute it inside the kernel of the layer before it."""
        return self.is_clamp or self.float_gemm_takes
