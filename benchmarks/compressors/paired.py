"""Shared by the compressor benchmarks: ResNet-20 with its statistics, and paired differences.

Calibration images come from the train file; every figure is a paired difference to the uncompressed
model on the final 5,000 test images, with its standard error.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.compressors.layers import Database
from paredown.compressors.models import DenseOutputs, assemble, needs_refit, settle
from paredown.compressors.statistics import collect_statistics, summed_cross_entropy
from paredown.compressors.storage import CompressedModel
from paredown.search.config import load_config
from paredown.search.evaluating import channels_last
from paredown.search.tasks import Split, load_task
from paredown.spaces.candidates import Candidate, LayerChoice
from paredown.spaces.capture import as_inputs, capture
from paredown.spaces.structure import read_model_map

CONFIG = Path(__file__).parents[2] / "examples" / "cifar10_resnet20.yaml"
CALIBRATION_IMAGES = 512
_BATCH = 50


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Per test image: whether the answer was right (1 or 0), and its loss."""

    right: Tensor
    losses: Tensor

    def text(self, against: Outcome) -> str:
        """Accuracy, its paired difference in points, and the loss with its paired difference."""
        points, points_error = _mean_and_error(100 * (self.right - against.right))
        loss, loss_error = _mean_and_error(self.losses - against.losses)
        return (
            f"{100 * float(self.right.mean()):6.2f} %  {points:+6.2f} ± {points_error:.2f} points  "
            f"loss {float(self.losses.mean()):.4f} ({loss:+.4f} ± {loss_error:.4f})"
        )


@dataclass(frozen=True, kw_only=True)
class Bench:
    """ResNet-20, its database of solutions, calibration inputs, and images to score on."""

    database: Database
    calibration: list[Tensor]
    search: Split
    test: Split

    def candidate(self, choice: LayerChoice) -> Candidate:
        """Every layer under `choice`, but the first and the last at 8 bits."""
        names = [layer.name for layer in self.database.model_map.layers]
        ends = LayerChoice(weight_bits=8, method=choice.method)
        inner = dict.fromkeys(names[1:-1], choice)
        return Candidate.of(layers={names[0]: ends, **inner, names[-1]: ends})

    def assemble(self, candidate: Candidate) -> CompressedModel:
        """As the search does: solved again for the inputs layers get, where those drift."""
        model = assemble(candidate, self.database)
        if needs_refit(candidate):
            dense = DenseOutputs(self.database, self.calibration)
            model = settle(model, candidate, self.database, dense)
        return model

    def outcome(
        self, model: CompressedModel, split: Split | None = None, rows: int | None = None
    ) -> Outcome:
        """Answers and losses on the first `rows` images of a split, all of the test split's."""
        right, losses = [], []
        with torch.no_grad():
            for inputs, labels in (split or self.test).batches(_BATCH, rows):
                images = as_inputs(model.blueprint.graph, inputs)
                logits = model([channels_last(x) for x in images])[0]
                right.append((logits.argmax(1) == labels).double())
                losses.append(F.cross_entropy(logits, labels, reduction="none").double())
        return Outcome(right=torch.cat(right), losses=torch.cat(losses))


def open_bench(images: int = CALIBRATION_IMAGES) -> Bench:
    """The bench; ends the program with a clear reason where the data is absent."""
    if "PAREDOWN_DATA" not in os.environ:
        sys.exit("PAREDOWN_DATA must name the folder with cifar10_jpeg/ and weights/; set it")
    torch.set_num_threads(1)
    config = load_config(CONFIG)
    task = load_task(config)
    captured = capture(task.module, task.example)
    model_map = read_model_map(captured)
    split = task.splits.calibration
    batches = [as_inputs(captured.graph, i) for i, _ in split.batches(64, images)]
    statistics = collect_statistics(
        captured.graph, captured.tensors, model_map.layers, batches, loss=summed_cross_entropy
    )
    whole = as_inputs(captured.graph, split.rows(0, images)[0])
    return Bench(
        database=Database(model_map, captured.tensors, statistics, {}),
        calibration=[channels_last(x) for x in whole],
        search=task.splits.search,
        test=task.splits.open_test(),
    )


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))
