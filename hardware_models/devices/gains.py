"""What each knob of the search buys on a device, and the kernels that make it so.

One table per device is the truth that the space is drawn from: what has no kernel earns no latency.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from paredown.hardware_models.devices.figures import Confidence, Positive, Rate, Record
from paredown.spaces.candidates.blueprint import OnnxType
from paredown.spaces.candidates.candidate import Container, Ranges, WeightBits

Effect = Literal["baseline", "faster", "bytes_only", "slower", "unsupported"]
"""Of a knob: what the others are compared with; saves time; only bytes; bytes, at the cost of time;
or does not run at all."""
WEIGHT_BITS: tuple[WeightBits, ...] = get_args(WeightBits)


class Kernel(Record):
    """A kernel that the runtime really runs: what is not listed earns no latency.

    `activation_bits` and `weight_bits` are those it computes with or, for weights, reads.
    """

    name: str
    operators: tuple[str, ...] = Field(min_length=1)
    weight_bits: tuple[WeightBits, ...] = Field(min_length=1)
    activation_bits: Literal[8, 16, 32]
    source: str = Field(min_length=3)
    confidence: Confidence


class Gain(Record):
    """What one knob buys on the device.

    `speedup` is the range of factors of a layer over the same layer without the knob: above 1 is
    faster; None where there is nothing to report.
    """

    effect: Effect
    speedup: tuple[Positive, Positive] | None = None
    note: str = ""
    source: str = Field(min_length=3)
    confidence: Confidence

    @model_validator(mode="after")
    def _speedup_agrees(self) -> Gain:
        low, high = self.speedup or (1.0, 1.0)
        if low > high or (self.effect == "slower" and low >= 1 and self.speedup):
            raise ValueError(
                f"speedup is [low, high], below 1 somewhere where the effect is slower, "
                f"got {self.speedup} for {self.effect}"
            )
        if self.effect == "faster" and (self.speedup is None or high <= 1):
            raise ValueError(f"an effect of faster needs a speedup above 1, got {self.speedup}")
        return self


class Gains(Record):
    """What every knob of the search buys: the truth that the space is drawn from.

    `bits_8` is 8-bit weights beside 8-bit activations; the other widths are of weights alone, kept
    in the narrowest type that loads, where 1 bit takes as much as 2. Linear layers may have a kernel
    for 4 bits where convolutions have none. `zeros` are scattered ones.
    """

    bits_32: Gain
    bits_8: Gain
    bits_8_weights: Gain
    bits_4: Gain
    bits_4_linear: Gain
    bits_2: Gain
    bits_other: Gain
    width: Gain
    rank: Gain
    pattern_2_4: Gain
    zeros: Gain

    def of_bits(self, bits: int) -> Gain:
        """The gain of a weight width: 1, 2, 3, 4, 5, 6, 8 or 32."""
        known = {32: self.bits_32, 8: self.bits_8, 4: self.bits_4, 2: self.bits_2, 1: self.bits_2}
        return known.get(bits, self.bits_other)


class Offers(Record):
    """Choices that the runtime loads, whether they buy time or not."""

    activation_bits: tuple[Literal[8, 32], ...] = Field(min_length=1)
    containers: tuple[Container, ...] = Field(min_length=1)
    ranges: tuple[Ranges, ...] = ("static",)
    onnx_types: tuple[OnnxType, ...] = Field(min_length=1)
    source: str = Field(min_length=3)
    confidence: Confidence


class Energy(Record):
    """Picojoules per multiply-accumulate and per byte: for ratios, never for joules.

    `scales_below_8_bits` says whether arithmetic on fewer than 8 bits costs less, as on hardware
    with bit-serial or sub-word units; elsewhere narrow weights are widened first.
    """

    float_mac_pj: Rate
    int8_mac_pj: Rate
    on_chip_byte_pj: Rate
    off_chip_byte_pj: Rate
    scales_below_8_bits: bool
