"""From a choice to tensors and files: statistics, solvers, storage, ONNX, bundles."""

from paredown.spaces.system.telemetry import switch_off

switch_off()
