"""What an engine carries out, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from paredown.search.study.evaluation import Kind, Score
from paredown.spaces.candidates.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Job:
    """One evaluation to carry out: `rows` None is the whole search split.

    After `longest_s` seconds it has failed; None sets no limit.
    """

    candidate: Candidate
    kind: Kind = "search"
    label: str = ""
    rung: int = 0
    rows: int | None = None
    longest_s: float | None = None

    @property
    def name(self) -> str:
        """Candidate key and rung, joined by a hyphen."""
        return f"{self.candidate.key}-{self.rung}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job: a score, or why there is none."""

    score: Score | None
    error: str | None
    duration_s: float
