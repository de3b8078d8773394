"""Tensors for a choice, without training."""

from paredown.spaces.telemetry import switch_off

switch_off()
