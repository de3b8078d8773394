"""Recurrent layers in ONNX Runtime: measured time beside the time that is predicted.

    python benchmarks/operators/recurrent.py [--device NAME | --calibration FILE] [--parts]

LSTMs and GRUs of 32 to 512 hidden units over 10 to 100 steps, one row, one thread, in floats, and LSTMs
with 8-bit weights and ranges found in the run. All networks of one size are timed interleaved. Predicted
is by the device's preset, or by a calibration (`paredown calibrate --families recurrent`), which has seen
none of these networks. `--parts` also prints the parts of each by the preset. At the end the median of
|predicted - measured| / measured. Exit code 1 where it is above a quarter after one factor for all: the
machine's speed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from paredown.compressors.onnx import lower
from paredown.hardware_models.devices import Device, host_device, load_device
from paredown.hardware_models.latency import RooflineLatency, read_calibration
from paredown.hardware_models.timing import fingerprint, measure_latencies
from paredown.hardware_models.work import Preset, Work, read_work
from paredown.search.calibrating import imagine
from paredown.spaces.candidates import Candidate, LayerChoice, SegmentChoice, draft
from paredown.spaces.capture import capture
from paredown.spaces.structure import read_model_map

HIDDEN = (32, 64, 128, 256, 512)
STEPS = (10, 49, 100)
INPUTS = 32
LARGEST_ERROR = 0.25
WAYS = {
    "LSTM": (nn.LSTM, LayerChoice(), SegmentChoice()),
    "GRU": (nn.GRU, LayerChoice(), SegmentChoice()),
    "8-bit LSTM": (
        nn.LSTM,
        LayerChoice(weight_bits=8),
        SegmentChoice(activation_bits=8, ranges="dynamic"),
    ),
}


class Sequence(nn.Module):
    """A recurrent layer's outputs at all steps."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU], hidden: int) -> None:
        super().__init__()
        self.layer = kind(INPUTS, hidden, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (batch, steps, hidden) of x (batch, steps, inputs)."""
        return self.layer(x)[0]


@dataclass(frozen=True)
class Timed:
    """One network: its name, its work, and the measured seconds of a run."""

    name: str
    hidden: int
    steps: int
    work: Work
    measured_s: float


def network(name: str, hidden: int, steps: int) -> tuple[Work, bytes]:
    """One layer's work and its ONNX file, with random codes."""
    kind, choice, segment = WAYS[name]
    captured = capture(Sequence(kind, hidden).eval(), torch.zeros(1, steps, INPUTS))
    model_map = read_model_map(captured)
    candidate = Candidate.of(
        layers={layer.name: choice for layer in model_map.layers},
        segments={each.name: segment for each in model_map.segments},
    )
    drafted = draft(model_map, candidate)
    return read_work(drafted), bytes(lower(imagine(drafted, seed=0)).SerializeToString())


def measured() -> list[Timed]:
    """All networks, timed size by size."""
    found = []
    for hidden in HIDDEN:
        named = [(name, steps) for steps in STEPS for name in WAYS]
        made = [network(name, hidden, steps) for name, steps in named]
        times = measure_latencies([file for _, file in made], instances=3, blocks=40)
        found += [
            Timed(name, hidden, steps, work, each.mean_s)
            for (name, steps), (work, _), each in zip(named, made, times, strict=True)
        ]
    return found


def predicted_parts_s(timed: Timed, device: Device) -> dict[str, float]:
    """The parts that a network has something of."""
    parts = Preset(device).total_s(timed.work)
    return {part: seconds for part, seconds in parts.items() if seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="by default that of this machine")
    parser.add_argument("--calibration", type=Path, help="predict by this file, not by the preset")
    parser.add_argument(
        "--parts", action="store_true", help="print the parts of each by the preset"
    )
    arguments = parser.parse_args()
    device = load_device(arguments.device) if arguments.device else host_device()
    model = RooflineLatency(device)
    if arguments.calibration:
        model, _ = read_calibration(arguments.calibration)
    torch.set_num_threads(1)
    found = measured()
    print(f"{fingerprint(1)}\n{model.source}\n")
    print(
        f"{'layer':12}{'hidden':>8}{'steps':>7}{'measured us':>13}{'predicted us':>14}{'ratio':>7}"
    )
    ratios: list[float] = []
    predictions = model.predict_many([each.work for each in found]).value_s
    for each, predicted_s in zip(found, predictions, strict=True):
        ratios.append(predicted_s / each.measured_s)
        row = f"{each.name:12}{each.hidden:8}{each.steps:7}{each.measured_s * 1e6:13.1f}"
        print(f"{row}{predicted_s * 1e6:14.1f}{ratios[-1]:7.2f}")
        if arguments.parts:
            parts = predicted_parts_s(each, device)
            print("    " + ", ".join(f"{part} {s * 1e6:.1f}" for part, s in parts.items()))
    factor = statistics.median(ratios)
    error = statistics.median(abs(ratio - 1) for ratio in ratios)
    relative = statistics.median(abs(ratio / factor - 1) for ratio in ratios)
    print(f"\nmedian error {error:.0%}; after the factor {factor:.2f} for all {relative:.0%}")
    return int(relative > LARGEST_ERROR)


if __name__ == "__main__":
    sys.exit(main())
