"""Time to the first score of a large network, stage by stage, and the most memory it takes.

    python benchmarks/search/first_score.py NETWORK [--rows 16] [--size 224] [--width 0.5]

NETWORK is `resnet50` or `vgg11`, of this file, or any name that timm knows where it is installed. Weights
and images are random, so nothing is said of accuracy: what counts is what comes before a first score.
That is the network read and its structure verified, its ONNX file held against it, statistics of all
layers with the loss's gradients, the uncompressed network scored, and uniform 8 bits; last a candidate at
4 bits by GPTQ with half of the channels of the widest group, refitted. Nothing is taken from the cache.
Exit code 1 where the first two scores take more than 4 minutes of the processor, or 8 GB resident.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from paredown.hardware_models.timing import fingerprint
from paredown.search.calibrating import uniform
from paredown.search.config import load_config
from paredown.search.evaluating import Workbench, equip, survey
from paredown.search.study import Rung
from paredown.spaces.candidates import Candidate, LayerChoice

MOST_S, MOST_BYTES = 240.0, 8e9
CLASSES = 1000
CONFIG = """
name: first_score
task:
  name: custom
  model: first_score:network
  kwargs: {{name: {name}}}
  data: first_score:images
  data_kwargs: {{rows: {rows}, size: {size}}}
  metric: accuracy
space:
  rules:
    - {{layers: "*", weight_bits: [4, 8, 32], method: [gptq]}}
    - {{groups: "*", width: [1.0, 0.5]}}
goals: [{{metric: accuracy}}, {{metric: onnx_bytes}}]
hardware: {{latency: roofline}}
search: {{engine: local, workers: 1, evaluations: 4}}
"""


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut, arXiv:1512.03385, striding in the middle."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *convolution(inputs, width, 1),
            nn.ReLU(),
            *convolution(width, width, 3, stride),
            nn.ReLU(),
            *convolution(width, outputs, 1),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size, and its norm."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def resnet50() -> nn.Module:
    """ResNet-50."""
    layers = [*convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 and width > 64 else 1
            layers.append(Bottleneck(inputs, width, stride))
            inputs = 4 * width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES)]
    return nn.Sequential(*layers, *head)


def vgg11() -> nn.Module:
    """VGG-11 without norms, arXiv:1409.1556: of 224 pixels its first linear layer has 25,088 inputs."""
    layers: list[nn.Module] = []
    inputs = 3
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for outputs in stage:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    head: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in ((49 * 512, 4096), (4096, 4096), (4096, CLASSES)):
        head += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, *head[:-1])


def network(name: str) -> nn.Module:
    """The network with random weights."""
    torch.manual_seed(0)
    own = {"resnet50": resnet50, "vgg11": vgg11}
    if name in own:
        return own[name]().eval()
    import timm  # an option, of which nothing else here makes use

    made: nn.Module = timm.create_model(name, num_classes=CLASSES)
    return made.eval()


def images(rows: int, size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Random images and labels, the same for every split."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(rows, 3, size, size, generator=generator)
    return dict.fromkeys(
        ("train", "search", "test"),
        (drawn, torch.randint(CLASSES, (rows,), generator=generator)),
    )


class Laps:
    """Prints what each stage took, and the most that this process has held so far."""

    def __init__(self) -> None:
        self.last_s = time.perf_counter()
        self.used_s = time.process_time()

    def lap(self, what: str) -> None:
        now, used = time.perf_counter(), time.process_time()
        print(
            f"{what:42}{now - self.last_s:8.1f} s{used - self.used_s:8.1f} s of the processor, "
            f"peak so far {peak_bytes() / 1e9:5.2f} GB",
            flush=True,
        )
        self.last_s, self.used_s = now, used


def peak_bytes() -> float:
    """The most that this process has held resident, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def measured(config: Path, width: float) -> float:
    """Seconds of the processor to the score of uniform 8 bits, every stage printed."""
    laps = Laps()
    surveyed = survey(load_config(config))
    name = surveyed.space.architectures[0].name
    model_map = surveyed.space.architectures[0].model_map
    laps.lap(f"read: {len(model_map.layers)} layers, {len(model_map.groups)} groups of channels")
    surveyed.collected.of(name)
    laps.lap("statistics")
    workbench = equip(surveyed)
    laps.lap("ONNX file held against the network")
    rung = Rung(rows=len(workbench.task.splits.search))
    workbench.evaluate_uncompressed(rung)
    laps.lap("uncompressed network scored")
    workbench.evaluator.evaluate(uniform(workbench.space, name, 8), rung)
    laps.lap("uniform 8 bits solved and scored")
    seconds = laps.used_s
    if width < 1:
        workbench.evaluator.evaluate(narrower(workbench, width), rung)
        laps.lap("one group narrower at 4 bits, scored")
    return seconds


def narrower(workbench: Workbench, width: float) -> Candidate:
    """Everything at 4 bits, and so much of the widest group."""
    architecture = workbench.space.architectures[0]
    model_map = architecture.model_map
    group = max(model_map.groups, key=lambda group: group.channels)
    choice = LayerChoice(weight_bits=4, method="gptq")
    return Candidate.of(
        architecture=architecture.name,
        layers={layer.name: choice for layer in model_map.layers},
        widths={group.name: int(width * group.channels)},
    )


def main() -> int:
    """Prints the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", metavar="NETWORK")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--width", type=float, default=0.5, help="1 leaves the last candidate out")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(fingerprint(arguments.threads))
    print(f"{arguments.network}, {arguments.rows} images of {arguments.size} pixels")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PAREDOWN_CACHE"] = folder
        config = Path(folder) / "config.yaml"
        values = {"name": arguments.network, "rows": arguments.rows, "size": arguments.size}
        config.write_text(CONFIG.format(**values))
        seconds = measured(config, arguments.width)
    print(
        f"first scores after {seconds:.0f} s of the processor (at most {MOST_S:.0f}), "
        f"{peak_bytes() / 1e9:.2f} GB (at most {MOST_BYTES / 1e9:.0f})"
    )
    return int(seconds > MOST_S or peak_bytes() > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
