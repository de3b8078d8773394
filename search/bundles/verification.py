"""Re-opens an exported bundle and holds it against its card: bytes, outputs, kernels, latency.

Nothing is taken from the search but the files; `verifying` does it in a process of its own.
"""

from __future__ import annotations

import math
from pathlib import Path

import onnxruntime as ort
import torch
from torch import Tensor

from paredown.compressors.bundle.loading import load_model
from paredown.compressors.bundle.writing import ONNX_FILE
from paredown.compressors.onnx.kernel_checks import session
from paredown.compressors.storage.compressed import CompressedModel
from paredown.search.bundles import output_rules, rules
from paredown.search.bundles.card import read_card
from paredown.search.bundles.length_rules import check_lengths
from paredown.search.bundles.rules import Findings
from paredown.search.bundles.task import NoTaskError, TaskSource
from paredown.search.evaluating.runtime_outputs import both_outputs, onnx_outputs
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.tasks.metrics import Metric, Tally
from paredown.search.tasks.splits import Split
from paredown.search.tasks.task import Task


class Verifier:
    """Verifies bundles one after another; task and baseline scores are kept for those that share.

    Args:
        rows: Only so many rows of the test split; all by default.
    """

    def __init__(self, source: TaskSource, rows: int | None = None) -> None:
        self._source = source
        self._rows = rows
        self._patience = rules.Patience()
        self._tasks: dict[str, tuple[Task, Split]] = {}
        self._baselines: dict[Path, tuple[float, Tensor | None]] = {}

    def verify(self, folder: Path) -> BundleCheck:
        """Holds the bundle in `folder` against its card.

        Raises:
            VerificationError: There is no complete card.
        """
        card = read_card(folder)
        found = Findings(folder=folder, card=card, predicted=card.predicted.figures)
        rules.check_files(found)
        opened = rules.open_bundle(found)
        has_baseline = rules.has_baseline(found)
        if opened is not None:
            tally = self._check_outputs(*opened, found)
            rules.check_kernels(opened[0], found)
            if has_baseline:
                if tally is not None:
                    self._compare(tally, found)
                rules.check_latency(found, self._patience)
        return BundleCheck(
            folder=folder,
            key=card.key,
            predicted=found.predicted,
            measured=found.measured,
            mismatches=tuple(found.mismatches),
            warnings=tuple(found.warnings),
            unchecked=tuple(found.unchecked),
            kernels=found.kernels,
        )

    def _check_outputs(
        self, model: CompressedModel, running: ort.InferenceSession, found: Findings
    ) -> Tally | None:
        """The metric's tally through ONNX Runtime; None without the bundle's task."""
        try:
            task, test = self._task(found)
        except NoTaskError as refusal:
            found.unchecked.append(f"metric: {refusal}")
            rows = output_rules.random_rows(model)
            output_rules.check_outputs(running, model, rows, found)
            check_lengths(model, rows, found)
            return None
        check_lengths(model, test, found)
        return self._check_metric(running, model, task.metric, test, found)

    def _check_metric(
        self,
        running: ort.InferenceSession,
        model: CompressedModel,
        metric: Metric,
        test: Split,
        found: Findings,
    ) -> Tally:
        through, simulation, gap = metric.tally(), metric.tally(), output_rules.OutputGap()
        agreed: list[Tensor] = []
        for outputs, simulated, targets in both_outputs(running, model, test, self._rows):
            through.add(outputs, targets)
            simulation.add(simulated, targets)
            gap.add(outputs, simulated)
            if metric.quality.is_hit_rate:
                agreed.append((outputs[0].argmax(1) == simulated[0].argmax(1)).float().flatten())
        if agreed:
            found.note("top1_agreement", float(torch.cat(agreed).mean()))
        output_rules.check_parity(model, test, found)
        output_rules.check_agreement(gap, found)
        rerun = output_rules.Rerun(model=model, split=test, rows=self._rows, noise=gap.noise)
        output_rules.check_metric(through, simulation, rerun, found)
        if found.baseline.resolve() == found.folder.resolve():
            # Others are compared with it: its outputs need not be computed for them again.
            self._baselines[found.folder.resolve()] = through.value(), through.per_sample()
        return through

    def _compare(self, tally: Tally, found: Findings) -> None:
        """Records how the candidate does against the uncompressed model, sample by sample."""
        value, theirs = self._baseline(found)
        found.note(f"uncompressed_test_{tally.metric.name}", value)
        ours = tally.per_sample()
        if ours is not None and theirs is not None and len(ours) > 1:
            difference = (ours - theirs).double()
            error = float(difference.std()) / math.sqrt(len(difference))
            found.note("test_difference", float(difference.mean()))
            found.note("test_difference_error", error)

    def _baseline(self, found: Findings) -> tuple[float, Tensor | None]:
        place = found.baseline.resolve()
        if place not in self._baselines:
            task, test = self._task(found)
            tally = task.metric.tally()
            graph = load_model(place).blueprint.graph
            for outputs, targets in onnx_outputs(
                session(place / ONNX_FILE), graph, test, self._rows
            ):
                tally.add(outputs, targets)
            self._baselines[place] = tally.value(), tally.per_sample()
        return self._baselines[place]

    def _task(self, found: Findings) -> tuple[Task, Split]:
        config_yaml = found.card.config_yaml
        # Code runs on the word of a folder: another folder with the same card is asked again.
        name = f"{found.folder.resolve().parent}\n{config_yaml}"
        if name not in self._tasks:
            task = self._source.load(found.folder, config_yaml)
            self._tasks[name] = task, task.splits.open_test()
        return self._tasks[name]
