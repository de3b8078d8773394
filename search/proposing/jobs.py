"""What an engine carries out, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from paredown.search.study.evaluation import Failure, Kind, Score
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.system.json_values import Json

GRACE_S = 5.0
"""Between the exception that a time limit raises in an evaluation and the end of its process."""


def too_long(longest_s: float) -> str:
    """What is said of an evaluation that took longer."""
    return (
        f"an evaluation must take at most {longest_s:.4g} s, got one that went on; mend what "
        "hangs, or raise search.evaluation_timeout_s"
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One evaluation to carry out: the candidate scored as `rung` says.

    After `longest_s` seconds it has failed; None sets no limit. `begins` is the digest of the model that
    the rung before trained, "" where it trained none.
    """

    candidate: Candidate
    kind: Kind = "search"
    label: str = ""
    rung: Rung = field(default_factory=Rung)
    longest_s: float | None = None
    begins: str = ""

    @property
    def name(self) -> str:
        """Candidate key and number of the rung, joined by a hyphen."""
        return f"{self.candidate.key}-{self.rung.number}"

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready dict from which `from_json` gives an equal record."""
        return {
            "candidate": self.candidate.to_json(),
            "kind": self.kind,
            "label": self.label,
            "rung": self.rung.to_json(),
            "longest_s": self.longest_s,
            "begins": self.begins,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """The job that `to_json` wrote."""
        candidate, rung = Candidate.from_json(data["candidate"]), Rung.from_json(data["rung"])
        return cls(**{**data, "candidate": candidate, "rung": rung})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job: a score, or why there is none; and the seconds it took.

    Without either the job could not be carried out, for the reason in `obstacle`, which is none of the
    candidate's making and meets every other job too.
    """

    score: Score | None
    failure: Failure | None
    duration_s: float
    obstacle: str = ""

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready dict from which `from_json` gives an equal record."""
        return {
            "score": None if self.score is None else asdict(self.score),
            "failure": None if self.failure is None else self.failure.to_json(),
            "duration_s": self.duration_s,
            "obstacle": self.obstacle,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The outcome that `to_json` wrote."""
        score, failure = data["score"], data["failure"]
        return cls(
            score=score and Score.from_json(score),
            failure=failure and Failure.from_json(failure),
            duration_s=data["duration_s"],
            obstacle=data["obstacle"],
        )
