"""What a candidate costs."""

from paredown.spaces.telemetry import switch_off

switch_off()
