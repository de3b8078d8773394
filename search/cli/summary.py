"""What a finished search prints: the front, how it compares, and what to type next."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rich.console import Group
from rich.text import Text

from paredown.search.cli.live import clock_text
from paredown.search.report.tables import front_table, plain_table
from paredown.search.report.terminal import styled
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front
from paredown.search.study.rows import references_of


class Outcome(Protocol):
    """What is shown of a finished run."""

    @property
    def folder(self) -> Path:
        """Folder of the run."""

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """All evaluations, failed ones and references included."""

    @property
    def front(self) -> Front:
        """The front at the end of the run."""


def summary(result: Outcome, duration_s: float) -> Group:
    """What a finished search prints: the front, how it compares, and what to type next."""
    front = result.front
    references = references_of(result.evaluations, front.rung)
    failed = sum(evaluation.is_failed for evaluation in result.evaluations)
    head = Text.assemble(
        (f"{len(front.members)} models on the front", "bold"),
        f" of {len(result.evaluations)} evaluations in {clock_text(duration_s)}",
        ", " if failed else "",
        (f"{failed} failed" if failed else "", "red"),
    )
    folder = _short(result.folder)
    aim = front.goals[0]
    pick = f"{aim.direction[:3]} {aim.metric}"
    following = plain_table("", "")
    following.show_header = False
    following.columns[1].justify = "left"
    following.add_row(styled("report", "bold"), f"{folder}/report.html")
    following.add_row(styled("browse", "bold"), f"paredown ui {folder}")
    if front.members:
        following.add_row(styled("take one", "bold"), f'paredown export {folder} --pick "{pick}"')
    return Group(head, "", front_table(front.members, front.goals, references), "", following)


def _short(folder: Path) -> str:
    """`folder` from the current one where it lies below."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
