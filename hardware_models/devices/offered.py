"""What a device offers the space: widths, patterns and steps that its file says are worth trying."""

from __future__ import annotations

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.devices.gains import WEIGHT_BITS
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.candidates.zeros import Pattern


def capabilities(device: Device) -> Capabilities:
    """What the device offers the space: widths and patterns that buy time apart from the others."""
    effects = {bits: device.gains.of_bits(bits).effect for bits in WEIGHT_BITS}
    fast: list[Pattern] = ["dense"]
    fast += ["element", "block"] if device.gains.zeros.effect == "faster" else []
    fast += ["2:4"] if device.gains.pattern_2_4.effect == "faster" else []
    return Capabilities(
        device=device.name,
        fast_weight_bits=tuple(b for b in WEIGHT_BITS if effects[b] in ("baseline", "faster")),
        storage_weight_bits=tuple(
            b for b in WEIGHT_BITS if effects[b] in ("bytes_only", "slower")
        ),
        activation_bits=device.offers.activation_bits,
        containers=device.offers.containers,
        ranges=device.offers.ranges,
        onnx_types=device.offers.onnx_types,
        width_step=device.alignment.width_step,
        channel_multiple=device.alignment.multiple,
        rank_step=device.alignment.rank_step,
        fast_patterns=tuple(fast),
        storage_only_knobs=() if len(fast) > 1 else ("sparsity", "pattern"),
        weight_budget_bytes=device.memory.weight_budget_bytes,
        activation_budget_bytes=device.memory.activation_budget_bytes,
    )
