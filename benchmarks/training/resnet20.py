"""Shared by the benchmarks of training on ResNet-20: the network, its rows, trainings and scores.

Trained are all images of the train file but 1,000, which choose the best state; every figure is of
images of the search split, none of which is trained on or chosen by.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.compressors.layers import Database
from paredown.compressors.models import DenseOutputs, assemble, needs_refit, settle
from paredown.compressors.statistics import Range, collect_statistics, summed_cross_entropy
from paredown.compressors.storage import CompressedModel
from paredown.compressors.training import Budget, Recover, Trained, View, trained
from paredown.search.config import load_config
from paredown.search.evaluating import AUGMENTATIONS, TrainingRows, channels_last, prepare
from paredown.search.tasks import Split
from paredown.spaces.candidates import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.capture import as_inputs
from paredown.spaces.structure import ModelMap

CONFIG = Path(__file__).parents[2] / "examples" / "cifar10_recovery.yaml"
TEMPERATURE = 2.0
"""At which divergences from the uncompressed network are measured, as in training."""
_BATCH = 50


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Per image: whether the answer was right (1 or 0), and the divergence from the uncompressed one."""

    right: Tensor
    far: Tensor

    @property
    def text(self) -> str:
        """Divergence and accuracy."""
        return f"{float(self.far.mean()):.4f}  {100 * float(self.right.mean()):6.2f} %"

    def gain(self, on: Outcome) -> str:
        """Points of accuracy gained on another, paired, with the standard error."""
        points = 100 * (self.right - on.right)
        return f"{float(points.mean()):+6.2f} ± {standard_error(points):.2f}"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """ResNet-20 with its database of solutions, and what it is trained and scored on.

    `wanted` are the uncompressed network's logits of the scored images.
    """

    database: Database
    calibration: list[Tensor]
    data: TrainingRows
    scored: Split
    wanted: Tensor
    precision: str
    seed: int

    def candidate(self, choice: LayerChoice, activation_bits: int) -> Candidate:
        """Every layer under `choice`, but the first and the last dense at 8 bits."""
        model_map = self.database.model_map
        names = [layer.name for layer in model_map.layers]
        ends = LayerChoice(weight_bits=8)
        inner = dict.fromkeys(names[1:-1], choice)
        segment = SegmentChoice(activation_bits=activation_bits)
        return Candidate.of(
            layers={names[0]: ends, **inner, names[-1]: ends},
            segments={s.name: segment for s in model_map.segments} if activation_bits < 32 else {},
        )

    def assemble(self, candidate: Candidate) -> CompressedModel:
        """The training-free model, as a search has it."""
        model = assemble(candidate, self.database)
        if not needs_refit(candidate):
            return model
        return settle(
            model, candidate, self.database, DenseOutputs(self.database, self.calibration)
        )

    def of_network(self, tensors: Mapping[str, Tensor]) -> Bench:
        """The bench whose layers start from other weights and biases: those of a trained model.

        What is trained for stays the uncompressed network.
        """
        known = self.database
        merged = {name: tensors.get(name, x) for name, x in known.tensors.items()}
        database = _database(known.model_map, merged, known.ranges, self.calibration)
        return replace(self, database=database)

    def train(
        self,
        model: CompressedModel,
        quantizer: str,
        steps: int,
        lr: float,
        state: Mapping[str, Tensor] | None = None,
    ) -> Trained:
        """The model trained towards the uncompressed one's logits, from the state where one is given."""
        recipe = Recover(view=View(quantizer=quantizer), lr=lr, precision=self.precision)
        return trained(recipe, model, self.data, Budget(steps=steps), self.seed, state)

    def outcome(self, model: CompressedModel) -> Outcome:
        """Answers for the scored images, and how far logits are from the uncompressed network's."""
        logits, labels = logits_of(model, self.scored)
        log_p, log_q = (F.log_softmax(x / TEMPERATURE, dim=1) for x in (logits, self.wanted))
        each = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)
        right = (logits.argmax(1) == labels).double()
        return Outcome(right=right, far=each.double() * TEMPERATURE**2)


def logits_of(model: CompressedModel, split: Split) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and labels (n,) of a split."""
    logits, labels = [], []
    with torch.no_grad():
        for inputs, targets in split.batches(_BATCH):
            images = [channels_last(x) for x in as_inputs(model.blueprint.graph, inputs)]
            logits.append(model(images)[0])
            labels.append(targets)
    return torch.cat(logits), torch.cat(labels)


def standard_error(values: Tensor) -> float:
    """Of the mean of independent values."""
    return float(values.std()) / math.sqrt(len(values))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `open_bench` reads, and the steps."""
    parser.add_argument("--steps", type=int, default=400, help="of 128 images")
    parser.add_argument(
        "--images", type=int, default=5000, help="of the search split, to score on"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the images")


def open_bench(arguments: argparse.Namespace) -> Bench:
    """The bench; ends the program with a clear reason where the data is absent."""
    if "PAREDOWN_DATA" not in os.environ:
        sys.exit("PAREDOWN_DATA must name the folder with cifar10_jpeg/ and weights/; set it")
    torch.set_num_threads(1)
    workbench = prepare(load_config(CONFIG, ["hardware.latency=roofline"]))
    reference = workbench.assemble(workbench.uncompressed())
    task = workbench.task
    scored = task.splits.search.take(torch.arange(arguments.images))
    database = workbench.databases[workbench.space.architectures[0].name]
    return Bench(
        database=database,
        calibration=workbench.evaluator.calibration,
        data=TrainingRows(
            split=task.splits.open_train(),
            graph=database.model_map.graph,
            task_loss=task.loss,
            reference=reference,
            class_dim=task.class_dim,
            augment=AUGMENTATIONS["flips_and_crops"],
        ),
        scored=scored,
        wanted=logits_of(reference, scored)[0],
        precision=arguments.precision,
        seed=arguments.seed,
    )


def _database(
    model_map: ModelMap,
    tensors: Mapping[str, Tensor],
    ranges: Mapping[str, Range],
    calibration: list[Tensor],
) -> Database:
    batches = [list(part) for part in zip(*(x.split(_BATCH) for x in calibration), strict=True)]
    statistics = collect_statistics(
        model_map.graph, tensors, model_map.layers, batches, loss=summed_cross_entropy
    )
    return Database(model_map, tensors, statistics, ranges)
