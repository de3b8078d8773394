"""The end of a search: the front exported and verified, figures and report written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from paredown.hardware_models.whole_file import write_text_whole
from paredown.search.decisions import decision_figure
from paredown.search.display import Outline
from paredown.search.evaluation import UNCOMPRESSED
from paredown.search.exporting import export
from paredown.search.ledger import Ledger
from paredown.search.pictures import decision_png, front_png, progress_png
from paredown.search.plots import front_figure, parallel_figure, progress_figure, write_html
from paredown.search.report import BundleCheck, RunSummary, write_report
from paredown.search.run_record import CONFIG
from paredown.search.style import Picture
from paredown.search.verification import check_of, verify_many
from paredown.search.workbench import Workbench

BUNDLES = "bundles"


def export_front(workbench: Workbench, ledger: Ledger, folder: Path) -> tuple[BundleCheck, ...]:
    """Every member of the front as a bundle, re-opened and measured in a fresh process."""
    found = [
        e for e in ledger.evaluations if e.label == UNCOMPRESSED and e.rung == ledger.front.rung
    ]
    base = found[-1] if found else workbench.evaluate_uncompressed(rung=1)
    paths = [export(workbench, member, folder / BUNDLES, base) for member in ledger.front.members]
    checks = []
    for verification in verify_many(paths):
        relative = verification.folder.resolve().relative_to(folder.resolve())
        checks.append(replace(check_of(verification), folder=str(relative)))
        if verification.ok:
            ledger.tracker.log_bundle(verification.key, verification.folder)
    return tuple(checks)


def write_pages(
    workbench: Workbench,
    ledger: Ledger,
    folder: Path,
    checks: tuple[BundleCheck, ...],
    duration_s: float,
    stopped: str | None,
) -> None:
    """Figures, front.json and the report, in the folder and in MLflow."""
    space = workbench.space
    picture = Picture(
        evaluations=tuple(ledger.evaluations),
        front=ledger.front,
        outline=Outline.of(space.architectures[0].model_map),
        hypervolumes=tuple(ledger.hypervolumes),
        name=workbench.config.name,
    )
    write_html(front_figure(picture), folder / "front.html")
    write_html(parallel_figure(picture), folder / "parallel.html")
    write_html(decision_figure(picture), folder / "decisions.html")
    write_html(progress_figure(picture), folder / "progress.html")
    front_png(picture, folder / "front.png")
    decision_png(picture, folder / "decisions.png")
    progress_png(picture, folder / "progress.png")
    members = [member.to_json() for member in ledger.front.members]
    write_text_whole(folder / "front.json", json.dumps(members, indent=1))
    notes = [workbench.cost_models.latency_model.source, *workbench.caveats]
    notes += [*ledger.tracker.problems]
    if stopped is not None:
        notes.append(f"stopped early: {stopped}")
    if workbench.config.search.engine == "ray":
        notes.append("carried out on Ray: exact repetition is by the journal alone")
    report = write_report(
        folder,
        RunSummary(
            model=workbench.config.task.name,
            device=workbench.device.name,
            picture=picture,
            duration_s=duration_s,
            bundles=checks,
            left_out=space.left_out,
            over_bound=ledger.over_bound,
            notes=tuple(notes),
        ),
    )
    names = ("front.html", "parallel.html", "decisions.html", "progress.html", "front.png")
    pages = [folder / name for name in (*names, "decisions.png", "front.json", CONFIG)]
    ledger.tracker.log_files([*pages, report])
