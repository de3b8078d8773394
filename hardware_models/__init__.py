"""What a candidate costs on a device: work, latency, memory, energy, and timing."""

from paredown.spaces.system.telemetry import switch_off

switch_off()
