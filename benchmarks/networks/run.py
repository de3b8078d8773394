"""A network that others trained: searched, exported, verified, beside uniform 8 and 4 bits.

    PAREDOWN_DATA=... python benchmarks/networks/run.py NAME [--evaluations N]

NAME is a config of this folder. Prints the uncompressed model, the two uniform ones, the front, and of
the front what is smallest, smallest packed and fastest within 1 % of the uncompressed quality (of an
accuracy: one point). Behind a quality stands the standard error of its difference to the uncompressed
model, sample by sample, where the metric is a mean over samples.
Every figure is on the card of a verified bundle: the quality through ONNX Runtime on a split that the
search does not rank by, bytes of both files against those of the uncompressed model, and the time as a
ratio to it, measured interleaved. The loss alone is computed here, on the same split. Exit code 1 if a
bundle does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.compressors.bundle import ONNX_FILE, load_model
from paredown.compressors.kernels import session
from paredown.hardware_models.timing import fingerprint
from paredown.search.bundles import Card, read_card
from paredown.search.config import Config, Quality, load_config
from paredown.search.evaluating import onnx_outputs
from paredown.search.report import Terminal
from paredown.search.running import deliver, run
from paredown.search.study import BUNDLES, CONFIG, UNCOMPRESSED, BundleCheck, read_run
from paredown.search.tasks import Split, Task, load_task

FOLDER = Path(__file__).parent
WITHIN = 0.01
"""Loss of quality that the smallest and the fastest may have: a point of accuracy, or so of its value."""


@dataclass(frozen=True)
class Verified:
    """A bundle by its card, its mean loss on the final split, and whether it is on the front."""

    name: str
    card: Card
    loss: float
    on_front: bool

    @property
    def measured(self) -> Mapping[str, float]:
        """What verifying the bundle found."""
        assert self.card.measured is not None
        return self.card.measured.metrics

    @property
    def quality(self) -> float:
        """The task's metric on the final split, through ONNX Runtime."""
        return self.measured[f"test_{self.card.metric}"]

    @property
    def quality_error(self) -> str:
        """Standard error of the quality's difference to the uncompressed model; "" where it has none."""
        error = self.measured.get("test_difference_error")
        return "" if error is None else f"±{error:.4f}"

    @property
    def time_ratio(self) -> float:
        """Measured latency over the uncompressed model's."""
        return self.measured.get("latency_ratio", 1.0)


def searched(config: Config) -> tuple[Path, list[BundleCheck], frozenset[str]]:
    """The run's folder, what verifying the references and the front there found, and the front's keys."""
    result = run(config)
    record = read_run(result.folder)
    known = frozenset(check.key for check in result.bundles)
    # Scored twice, on the first rung and on the whole search split.
    references = {e.key: e for e in record.evaluations if e.label and e.key not in known}
    places = result.folder / BUNDLES
    checks = deliver(record, list(references.values()), places, Terminal(stderr=True))
    return result.folder, [*checks, *result.bundles], known


def mean_loss(bundle: Path, task: Task, test: Split) -> float:
    """Mean of the task's loss over the batches of the final split, through ONNX Runtime."""
    graph, running = load_model(bundle).blueprint.graph, session(bundle / ONNX_FILE)
    total, rows = 0.0, 0
    for outputs, targets in onnx_outputs(running, graph, test):
        total += float(task.loss(outputs, targets)) * len(outputs[0])
        rows += len(outputs[0])
    return total / rows


def is_near(found: Verified, base: Verified, quality: Quality) -> bool:
    """Whether a model has lost no more quality than `WITHIN` allows."""
    sign = 1 if quality.direction == "maximize" else -1
    lost = sign * (base.quality - found.quality)
    return lost <= WITHIN * (1 if quality.in_percent else abs(base.quality)) + 1e-12


def shown(name: str, found: Verified, base: Verified) -> str:
    """One line of the table."""
    onnx, packed = (
        base.card.predicted.figures[key] / found.card.predicted.figures[key]
        for key in ("onnx_bytes", "packed_bytes")
    )
    return (
        f"{name:24}{found.card.key:14}{found.quality:10.4f}{found.quality_error:>9}{found.loss:10.4f}"
        f"{found.measured['onnx_bytes']:12,.0f}{onnx:8.2f}x{packed:8.2f}x{1 / found.time_ratio:8.2f}x"
    )


def print_table(found: Sequence[Verified], quality: Quality) -> None:
    """The references, and what is smallest and fastest of those that are near the uncompressed model."""
    base = next(each for each in found if each.name == UNCOMPRESSED)
    print(
        f"{'':24}{'bundle':14}{quality.name[:9]:>10}{'paired':>9}{'loss':>10}{'ONNX bytes':>12}"
        f"{'ONNX':>9}{'packed':>9}{'faster':>9}"
    )
    for each in sorted(found, key=lambda v: (not v.name, -v.measured["onnx_bytes"])):
        print(shown(each.name or "front", each, base))
    near = [each for each in found if each.on_front and is_near(each, base, quality)]
    if not near:
        print("nothing on the front is within 1 %")
        return
    smallest = min(near, key=lambda each: each.measured["onnx_bytes"])
    packed = min(near, key=lambda each: each.measured["packed_bytes"])
    print(shown("smallest within 1 %", smallest, base))
    print(shown("smallest packed", packed, base))
    print(shown("fastest within 1 %", min(near, key=lambda each: each.time_ratio), base))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(each.stem for each in FOLDER.glob("*.yaml")))
    parser.add_argument("--evaluations", type=int, help="by default those of the config")
    arguments = parser.parse_args()
    overrides = []
    if arguments.evaluations is not None:
        overrides.append(f"search.evaluations={arguments.evaluations}")
    folder, checks, front = searched(load_config(FOLDER / f"{arguments.name}.yaml", overrides))
    task, record = load_task(load_config(folder / CONFIG)), read_run(folder)
    test = task.splits.open_test()
    found = [
        Verified(
            record.with_key(check.key).label,
            read_card(check.folder),
            mean_loss(check.folder, task, test),
            check.key in front,
        )
        for check in checks
    ]
    print(fingerprint(1))
    print_table(found, task.metric.quality)
    return int(any(not check.ok for check in checks))


if __name__ == "__main__":
    sys.exit(main())
