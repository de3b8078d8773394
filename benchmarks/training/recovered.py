"""One compressed model of a network that others trained: without training, and recovered by it.

    PAREDOWN_DATA=... python benchmarks/training/recovered.py NAME [--steps N] [--lr RATE]

Nothing is searched. All layers have the bits of the case, linear and recurrent layers read 8-bit codes
whose ranges are found in each run, and the widths that the case names are halved. The model is trained
on training rows towards the outputs of the uncompressed one, and the state of the least loss on rows held
out of these is kept. Both models and the uncompressed one are exported and verified. Quality is that
through ONNX Runtime on rows that were neither trained on nor chosen by, with the standard error of the
paired difference to the uncompressed model; ONNX and packed bytes are predicted, and verifying compares
them with those written; time is a ratio measured interleaved. Exit code 1 if a bundle does not hold.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training import TrainedModels
from paredown.hardware_models.timing import fingerprint
from paredown.search.bundles import export
from paredown.search.calibrating import uniform
from paredown.search.config import Config, load_config
from paredown.search.evaluating import Workbench, configured_recovery, prepare
from paredown.search.report import Terminal
from paredown.search.running import verify
from paredown.search.study import BundleCheck, Evaluation
from paredown.spaces.candidates import Candidate
from paredown.spaces.knobs import Space

NETWORKS = Path(__file__).parents[1] / "networks"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is compressed and how it is trained.

    Args:
        data: Splits whose final rows include none that are trained on.
        halved: Pattern of the layers whose outputs are halved; "" halves none.
    """

    data: str
    bits: int
    halved: str = ""
    steps: int
    batch: int
    lr: float
    augment: str = "null"

    def config(self, name: str, steps: int, lr: float, threads: int) -> Config:
        """The config of `name` with this training."""
        recipe = f"{{lr: {lr}, batch: {self.batch}, augment: {self.augment}}}"
        recovery = f"recovery={{recipe: {recipe}, rungs: [{{steps: {steps}, keep: 1}}]}}"
        threads_ = f"search.threads_per_worker={threads}"
        return load_config(
            NETWORKS / f"{name}.yaml", [f"task.data={self.data}", recovery, threads_]
        )

    def candidate(self, space: Space) -> Candidate:
        """The one candidate of the case."""
        network = space.architectures[0]
        base = uniform(space, network.name, self.bits, activation_bits=8)
        widths = {
            group.name: group.channels // 2
            for group in network.model_map.groups
            if any(fnmatchcase(layer, self.halved) for layer in group.producers)
        }
        return Candidate.of(
            architecture=network.name,
            layers=dict(base.layers),
            segments=dict(base.segments),
            widths=widths,
        )


CASES = {
    "sentences": Case(
        data="sentences:final_splits", bits=4, halved="layers.*.up", steps=1200, batch=32, lr=4e-3
    ),
    "keyword_lstm_s": Case(
        data="keywords:halves", bits=2, steps=900, batch=32, lr=2e-2, augment="masks"
    ),
    "keyword_lstm_m": Case(
        data="keywords:halves", bits=2, steps=900, batch=32, lr=2e-2, augment="masks"
    ),
}


def evaluation_of(
    workbench: Workbench, candidate: Candidate, model: CompressedModel, trained: str | None
) -> Evaluation:
    """What came of a model: its prices, and its quality on the search split."""
    rung = workbench.rungs[-1]
    score = workbench.score(model, workbench.task.splits.search)
    metrics = workbench.price(candidate)
    return Evaluation(
        number=0,
        key=candidate.key,
        candidate=candidate,
        kind="search",
        rung=rung if trained else rung.untrained,
        metrics=metrics | {workbench.task.metric.name: score.metric, "loss": score.loss},
        trained=trained,
    )


def bundles(config: Config, case: Case, out: Path) -> dict[str, Path]:
    """The bundles by what they are; prints how the training went."""
    recovery = configured_recovery(config)
    assert recovery is not None
    kept = TrainedModels(out / "trained")
    workbench = prepare(config).recovering(recovery, kept)
    recovering, rung = workbench.evaluator.recovery, workbench.rungs[-1]
    assert recovering is not None
    workbench.evaluator.prepare_process(config.search.threads_per_worker)
    candidate = case.candidate(workbench.space)
    model = workbench.assemble(candidate)
    reference = workbench.assemble(workbench.uncompressed())
    begun_s = time.perf_counter()
    found, digest = recovering.train(model, reference, rung.recipe, "")
    taken_s = time.perf_counter() - begun_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{rung.recipe.steps} steps in {taken_s:.0f} s; resident at most {peak_mb:.0f} MB")
    print("held-out loss:", *(f"{p.step}: {p.held_out_loss:.4f}" for p in found.curve))
    base = workbench.evaluate_uncompressed(rung)
    before = evaluation_of(workbench, candidate, model, None)
    after = evaluation_of(workbench, candidate, found.model, digest)
    return {
        "not trained": export(workbench, before, out / "before", base, kept),
        "recovered": export(workbench, after, out / "after", base, kept),
        "uncompressed": out / "after" / base.key,
    }


def print_table(names: Sequence[str], checks: Sequence[BundleCheck], metric: str) -> None:
    """A line for each verified bundle, the uncompressed one last."""
    base = checks[-1].predicted
    print(f"{'':14}{metric[:9]:>9}{'difference':>21}{'ONNX':>8}{'packed':>9}{'faster':>9}")
    for name, check in zip(names, checks, strict=True):
        found = check.measured
        onnx, packed = (base[k] / check.predicted[k] for k in ("onnx_bytes", "packed_bytes"))
        difference = ""
        if check is not checks[-1]:
            difference = f"{found['test_difference']:+.4f} ± {found['test_difference_error']:.4f}"
        print(
            f"{name:14}{found[f'test_{metric}']:9.4f}{difference:>21}"
            f"{onnx:7.2f}x{packed:8.2f}x{1 / found.get('latency_ratio', 1.0):8.2f}x"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, exports, verifies and prints; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=CASES)
    parser.add_argument("--steps", type=int, help="by default those of the case")
    parser.add_argument("--lr", type=float, help="learning rate; by default that of the case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder of the bundles; runs/recovered_NAME")
    given = parser.parse_args(arguments)
    case, out = CASES[given.name], given.out or Path("runs") / f"recovered_{given.name}"
    config = case.config(given.name, given.steps or case.steps, given.lr or case.lr, given.threads)
    named = bundles(config, case, out)
    checks = verify(list(named.values()), Terminal(stderr=True), config)
    print(fingerprint(1))
    print_table(list(named), checks, config.task.metric_name)
    return int(any(not check.ok for check in checks))


if __name__ == "__main__":
    sys.exit(main())
