"""The end of a search: the front exported and verified, figures and report written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.compressors.training.kept import TrainedModels
from paredown.search.bundles.exporting import export
from paredown.search.bundles.measured import logged_bundles, member_json, record_on_card
from paredown.search.bundles.task import TaskSource
from paredown.search.bundles.verifying import broken, verify_each
from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.explaining.explainer import Explainer
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.prior import first_outlook
from paredown.search.report.page import RunSummary, report_page, write_report
from paredown.search.report.pages import whole_page, write_page
from paredown.search.report.pictures import decision_png, front_png, progress_png
from paredown.search.report.recovery import recovery_metrics
from paredown.search.report.sections import (
    decisions_section,
    front_section,
    parallel_section,
    progress_section,
)
from paredown.search.report.style import Picture
from paredown.search.running.ledger import Ledger
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.disk import is_disk_full
from paredown.search.study.display import Outline
from paredown.search.study.evaluation import UNCOMPRESSED, comparable, of_rung, reference
from paredown.search.study.front_measured import measured_front
from paredown.search.study.run_record import BUNDLES, CONFIG, PRIOR, TRAINED, bundle_places
from paredown.search.tracking.tracker import Tracker
from paredown.spaces.system.whole_file import write_text_whole

_log = logging.getLogger(__name__)

EXPLANATION = "explanation.json"


def export_front(workbench: Workbench, ledger: Ledger, folder: Path) -> Iterator[BundleCheck]:
    """Every member of the front as a bundle, re-opened and measured in a fresh process.

    A member that cannot be exported or verified is told so, and does not keep the others from it.

    Raises:
        OSError: The disk is full.
    """
    # What is on its way to MLflow would slow the machine that latencies are measured on.
    ledger.tracker.drain()
    own = comparable(ledger.evaluations, ledger.front.rung)
    base = reference(own, UNCOMPRESSED) or workbench.evaluate_uncompressed(workbench.rungs[-1])
    kept = TrainedModels(folder / TRAINED)
    register_as = workbench.config.tracking.register_as
    written, failed = [], []
    for member in ledger.front.members:
        try:
            written.append(export(workbench, member, folder / BUNDLES, base, kept))
        except Exception as error:  # the boundary of one bundle: the others are still exported
            if is_disk_full(error):  # they have no room either
                raise
            _log.exception("exporting %s failed", member.key)
            why = f"exporting it failed, {type(error).__name__}: {str(error)[:600]}"
            failed.append(broken(folder / BUNDLES / member.key, why))
            yield failed[-1]
    checks = list(failed)
    try:
        for check in verify_each(written, TaskSource(config=workbench.config)):
            record_on_card(check)
            checks.append(check)
            yield check
    finally:
        for bundle in logged_bundles(ledger.front, checks, register_as):
            ledger.tracker.log_bundle(bundle)


def known_outlook(workbench: Workbench, ledger: Ledger, folder: Path) -> Outlook:
    """What the search expects of training before its first one."""
    return first_outlook(folder / PRIOR, ledger.goals, is_trained=workbench.is_trained)


def write_figures(
    workbench: Workbench, ledger: Ledger, folder: Path, checks: Sequence[BundleCheck]
) -> list[Path]:
    """The pictures one by one, written to the folder; those that MLflow keeps."""
    picture = _picture(workbench, ledger, folder, checks)
    sections = {
        "front": front_section(picture, bundle_places(folder, ledger.front.keys)),
        "parallel": parallel_section(picture),
        "decisions": decisions_section(picture),
        "progress": progress_section(picture),
    }
    for name, section in sections.items():
        write_page(folder / f"{name}.html", picture.title, section)
    drawings = {"front": front_png, "decisions": decision_png, "progress": progress_png}
    for name, draw in drawings.items():
        draw(picture, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawings]


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a report says beside the evaluations.

    `seconds` is by what they went into, see `Timed.seconds`; `told` are sentences for it beside its own.
    """

    explainer: Explainer
    duration_s: float
    seconds: Mapping[str, float]
    told: Sequence[str] = ()


def write_pages(
    workbench: Workbench,
    ledger: Ledger,
    folder: Path,
    checks: tuple[BundleCheck, ...],
    account: Account,
) -> RunSummary:
    """front.json, explanation.json and the report with all figures; what the report says."""
    by_key = {check.key: check for check in checks}
    picture = _picture(workbench, ledger, folder, checks)
    front = ledger.front.members
    members = [member_json(m, by_key.get(m.key), picture.measured) for m in front]
    write_text_whole(folder / "front.json", json.dumps(members, indent=1, allow_nan=False))
    notes = [workbench.cost_models.latency_model.source, *workbench.caveats]
    notes += account.told
    if workbench.config.search.engine == "ray":
        notes.append("carried out on Ray: exact repetition is by the journal alone")
    first = of_rung(ledger.evaluations, workbench.rungs[0])
    explanation = account.explainer.explain(first, ledger.front)
    if explanation is not None:
        plain = json.dumps(explanation.to_json(), indent=1, allow_nan=False)
        write_text_whole(folder / EXPLANATION, plain)
    summary = RunSummary(
        model=workbench.config.task.name,
        device=workbench.device.name,
        picture=picture,
        duration_s=account.duration_s,
        seconds=account.seconds,
        bundles=checks,
        left_out=workbench.space.left_out,
        over_bound=ledger.over_bound,
        notes=tuple(notes),
        explanation=explanation,
    )
    write_report(folder, summary, bundle_places(folder, ledger.front.keys))
    return summary


def log_pages(
    tracker: Tracker, folder: Path, summary: RunSummary, pictures: Sequence[Path]
) -> None:
    """Gives MLflow the written files, and pages that need nothing else and link to nothing."""
    picture = summary.picture
    explained = [] if summary.explanation is None else [folder / EXPLANATION]
    tracker.log_files([*pictures, folder / "front.json", *explained, folder / CONFIG])
    tracker.log_text("report.html", report_page(summary))
    seconds = {f"seconds/{name}": value for name, value in summary.seconds.items()}
    tracker.log_metrics(seconds | recovery_metrics(picture))
    tracker.log_text("front.html", whole_page(picture.title, front_section(picture, {})))


def _picture(
    workbench: Workbench, ledger: Ledger, folder: Path, checks: Sequence[BundleCheck]
) -> Picture:
    return Picture(
        evaluations=tuple(ledger.evaluations),
        front=ledger.front,
        outline=Outline.of_space(workbench.space),
        hypervolumes=tuple(ledger.hypervolumes),
        name=workbench.config.name,
        outlook=known_outlook(workbench, ledger, folder),
        measured=measured_front(ledger.front.goals, ledger.front.members, checks),
    )
