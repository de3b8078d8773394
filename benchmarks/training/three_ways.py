"""Training inside the search against training after it and against uniform models trained: equal images.

    PAREDOWN_DATA=... python benchmarks/training/three_ways.py CONFIG [--set A.B=C ...]

CONFIG has a section `recovery`. Its search is carried out as it stands (*inside*). Then the same search
without training, whose front is trained afterwards (*after*; at most as many models as the first rung
trains, and the front as it was counts too); and nothing is searched but every layer has
4, 3 or 2 bits, the first and the last 8, activations 8, at full and at half width, and these are trained
(*uniform*). All are trained by the recipe of the config, for as long as makes the images of all ways
equal: images that pass through a network, of scoring, of training, of the teacher and of held-out rows.
Every trained model is exported and verified. Compared is the volume that the verified models of a way
dominate: quality on the split that nothing was chosen by, through ONNX Runtime, down to ten points below
the uncompressed model; and the natural logarithms of the predicted costs, up to those of the uniform
8-bit model. Exit code 1 if a bundle does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from paredown.compressors.training import TrainedModels
from paredown.hardware_models.timing import fingerprint
from paredown.search.bundles import export
from paredown.search.calibrating import uniform
from paredown.search.config import load_config
from paredown.search.evaluating import Workbench, configured_recovery, prepare
from paredown.search.proposing.promoting import leading
from paredown.search.report import Terminal
from paredown.search.running import run, verify
from paredown.search.study import (
    CONFIG,
    UNIFORM_8_BIT,
    BundleCheck,
    Evaluation,
    Goal,
    RunRecord,
    dominated_volume,
    read_run,
    reference,
    volume_axes,
)
from paredown.search.tasks import load_task
from paredown.spaces.candidates import Candidate
from paredown.spaces.knobs import Space

BITS = (4, 3, 2)
UNTRAINED = "recovery=null"
LOOKS = 9
"""Scorings of held-out rows in one training, at most."""
DEPTH = 0.1
"""How far below the uncompressed model quality still counts, as a share."""


@dataclass(frozen=True)
class Spent:
    """Images that passed through a network, and how many steps some of them still buy."""

    batch: int
    held_out: int

    @property
    def of_step(self) -> int:
        """The student's and the teacher's."""
        return 2 * self.batch

    def by(self, record: RunRecord, rows: int) -> int:
        """Of all evaluations of a run whose search split has so many rows."""
        total, trained = 0, 0
        for each in record.evaluations:
            total += each.rung.rows or rows
            if each.curve:
                steps = each.curve[-1][0]
                total += steps * self.of_step + len(each.curve) * self.held_out
                trained += steps
        print(f"{record.folder.name}: {total:,} images, {trained:,} steps")
        return total

    def steps(self, images: int, models: int) -> int:
        """For each of so many models."""
        return max(1, (images // models - LOOKS * self.held_out) // self.of_step)


@dataclass(frozen=True)
class Way:
    """Candidates that are trained for so many steps each, and where their bundles go."""

    name: str
    candidates: tuple[Candidate, ...]
    steps: int
    overrides: tuple[str, ...]

    def bundles(self, config_path: Path, out: Path) -> list[Path]:
        """Trains, exports; the folders."""
        rungs = f"recovery.rungs=[{{steps: {self.steps}, keep: {len(self.candidates)}}}]"
        config = load_config(config_path, [*self.overrides, rungs])
        recovery = configured_recovery(config)
        assert recovery is not None
        kept = TrainedModels(out / self.name / "trained")
        workbench = prepare(config).recovering(recovery, kept)
        workbench.evaluator.prepare_process(1)
        base = workbench.evaluate_uncompressed(workbench.rungs[-1])
        found = []
        for number, candidate in enumerate(self.candidates):
            trained = _trained(workbench, candidate, number)
            found.append(export(workbench, trained, out / self.name / "bundles", base, kept))
            print(f"{self.name}: {number + 1}/{len(self.candidates)}", file=sys.stderr, flush=True)
        return found


def _trained(workbench: Workbench, candidate: Candidate, number: int) -> Evaluation:
    rung, recovering = workbench.rungs[-1], workbench.evaluator.recovery
    assert recovering is not None
    model = workbench.assemble(candidate)
    teacher = workbench.assemble(workbench.uncompressed())
    found, digest = recovering.train(model, teacher, rung.recipe, "")
    score = workbench.score(found.model, workbench.task.splits.search)
    quality = {workbench.task.metric.name: score.metric, "loss": score.loss}
    return Evaluation(
        number=number,
        key=candidate.key,
        candidate=candidate,
        rung=rung,
        metrics=workbench.price(candidate) | quality,
        trained=digest,
        curve=tuple((p.step, p.loss, p.held_out_loss) for p in found.curve),
    )


def ladder(space: Space) -> tuple[Candidate, ...]:
    """Uniform models with 8-bit activations, at full and at half width."""
    network = space.architectures[0]
    names = [layer.name for layer in network.model_map.layers]
    halved = {group.name: group.channels // 2 for group in network.model_map.groups}
    found = []
    for bits in BITS:
        base = uniform(space, network.name, bits, activation_bits=8)
        layers = {
            name: replace(
                choice,
                weight_bits=8 if name in (names[0], names[-1]) else bits,
                method="descent",
            )
            for name, choice in base.layers
        }
        found += [
            Candidate.of(
                architecture=network.name,
                layers=layers,
                segments=dict(base.segments),
                widths=widths,
            )
            for widths in ({}, halved)
        ]
    return tuple(found)


def chosen(record: RunRecord, count: int) -> tuple[Candidate, ...]:
    """Of a front the members that dominate most together, without the references."""
    members = [e for e in record.front.members if e.kind != "reference"]
    values = np.array([[e.metrics[g.metric] for g in record.goals] for e in members])
    best = leading(members, values, record.goals, count)
    return tuple(e.candidate for e in best)


def volume(checks: Iterable[BundleCheck], goals: Sequence[Goal], reference_: np.ndarray) -> float:
    """What verified bundles dominate up to the reference point."""
    values = [
        [c.predicted[g.metric] if g.is_cost else c.measured[f"test_{g.metric}"] for g in goals]
        for c in checks
    ]
    return dominated_volume(volume_axes(np.array(values), goals), reference_)


def print_way(name: str, checks: Sequence[BundleCheck], record: RunRecord, whole: float) -> float:
    """A line for each bundle and the volume of all, which is returned."""
    goals = record.goals
    eight = reference(record.evaluations, UNIFORM_8_BIT)
    assert eight is not None
    limits = [[eight.metrics[g.metric] if g.is_cost else whole - DEPTH for g in goals]]
    found = volume(checks, goals, volume_axes(np.array(limits), goals)[0])
    costs = [g.metric for g in goals if g.is_cost]
    base = record.uncompressed
    assert base is not None
    print(f"\n{name}: volume {found:.4f}, {len(checks)} models")
    for check in sorted(checks, key=lambda c: c.predicted[costs[0]]):
        ratios = "".join(f"{base.metrics[c] / check.predicted[c]:8.2f}x {c}" for c in costs)
        error = check.measured.get("test_difference_error", float("nan"))
        difference = check.measured.get("test_difference", float("nan"))
        print(f"  {check.key}{difference:+9.4f} ± {error:.4f}{ratios}")
    return found


def main() -> int:
    """Carries out all three ways and prints them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", dest="overrides")
    given = parser.parse_args()
    inside = load_config(given.config, given.overrides)
    if inside.recovery is None:
        parser.error(f"the config must have a section recovery, got {given.config} without")
    searched = run(inside)
    record, out = read_run(searched.folder), searched.folder / "ways"
    task = load_task(load_config(searched.folder / CONFIG))
    rows = len(task.splits.search)
    recipe = inside.recovery.recipe
    spent = Spent(recipe.batch, recipe.held_out_rows)
    total = spent.by(record, rows)

    name = f"name={inside.name}-untrained"
    before = run(load_config(given.config, [*given.overrides, name, UNTRAINED]))
    untrained = read_run(before.folder)
    left = total - spent.by(untrained, rows)
    front = chosen(untrained, inside.recovery.rungs[0].keep)
    uniforms = ladder(prepare(inside).space)
    overrides = tuple(given.overrides)
    ways = [
        Way("after", front, spent.steps(left, len(front)), overrides),
        Way("uniform", uniforms, spent.steps(total, len(uniforms)), overrides),
    ]
    with ProcessPoolExecutor(len(ways), get_context("spawn")) as pool:
        asked = [pool.submit(way.bundles, given.config, out) for way in ways]
        bundles = [each.result() for each in asked]
    kept = searched.bundles
    checks = [[*verify(each, Terminal(stderr=True), inside)] for each in bundles]
    # Those of its front that training made no better are its user's as well.
    checks[0] += before.bundles

    print(fingerprint(1))
    whole = next(c.measured[f"uncompressed_test_{task.metric.name}"] for c in checks[0])
    found = [print_way("inside", kept, record, whole)]
    for way, each in zip(ways, checks, strict=True):
        found.append(print_way(f"{way.name}, {way.steps:,} steps each", each, record, whole))
    print("\nvolume against inside:", *(f"{each / found[0]:.3f}" for each in found))
    return int(any(not check.ok for check in [*kept, *checks[0], *checks[1]]))


if __name__ == "__main__":
    sys.exit(main())
