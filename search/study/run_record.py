"""What a run folder holds, read from its journal alone: nothing of the model is loaded."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal, comparable, reference
from paredown.search.study.journal import JournalError, read_journal
from paredown.search.study.pareto import Front, front_of, goals_on, standing_of
from paredown.search.study.picking import pick
from paredown.search.study.rung import Rung
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

JOURNAL = "study.journal"
CONFIG = "config.yaml"
LATENCY = "latency.json"
RANKS = "ranks.json"
BUNDLES = "bundles"
INITIAL = "initial.json"
"""The candidates that a search was given to begin with."""
PRIOR = "prior.json"
"""What earlier runs teach of training."""
TRAINED = "trained"
"""Folder of the tensors of candidates that were trained before they were scored."""
RUNG = "rung"
"""Attribute of the journal: the rung whose front is the run's."""
END = "end"
"""Attribute of the journal: how the search ended, in MLflow's words; "" while it goes on."""


class RunError(ParedownError):
    """A run folder does not hold what is asked of it."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as its journal records it, finished or not.

    `front` is that of the highest rung that was finished: a part of one would pass over models.
    `end` is how the search ended, FINISHED, KILLED or FAILED; "" where it goes on or its process
    died, None where an earlier version wrote the run.
    """

    folder: Path
    goals: tuple[Goal, ...]
    evaluations: tuple[Evaluation, ...]
    front: Front
    end: str | None = None

    @property
    def uncompressed(self) -> Evaluation | None:
        """The reference at the front's rung, else at any."""
        same_rung = comparable(self.evaluations, self.front.rung)
        return reference(same_rung, UNCOMPRESSED) or reference(self.evaluations, UNCOMPRESSED)

    def picked(self, expression: str) -> Evaluation:
        """The front's member that `expression` asks for, see `pick`.

        Raises:
            PickError: The expression cannot be read, or nothing satisfies it.
        """
        return pick(self.front.members, expression, self.goals, self.uncompressed)

    def with_key(self, key: str) -> Evaluation:
        """The candidate `key` as the front has it, else at its highest rung; a unique beginning will do.

        Raises:
            RunError: No successful evaluation, or several candidates, begin with `key`.
        """
        fitting = [e for e in self.evaluations if e.key.startswith(key) and not e.is_failed]
        keys = sorted({e.key for e in fitting})
        if len(keys) != 1:
            found = ", ".join(keys[:5]) or "none"
            raise RunError(
                f"a candidate's key must fit one evaluated model of {self.folder}, {key!r} fits "
                f"{found}; list keys with: paredown front {self.folder}"
            )
        return standing_of(fitting, self.front)

    def to_json(self) -> str:
        """The front as JSON: goals, and key, label, metrics (SI) and candidate of each member."""
        members = [
            {
                "key": member.key,
                "label": member.label,
                "metrics": dict(member.metrics),
                "candidate": member.candidate.to_json(),
            }
            for member in self.front.members
        ]
        goals = [{"metric": goal.metric, "direction": goal.direction} for goal in self.goals]
        return json.dumps({"goals": goals, "front": members}, indent=2)


def read_run(folder: Path) -> RunRecord:
    """The run in `folder`, also while its search goes on.

    Raises:
        JournalError: There is no run.
    """
    check_is_run(folder)
    record = read_journal(folder / JOURNAL)
    evaluations = tuple(entry.evaluation for entry in record.entries)
    end = record.attributes.get(END)
    rung = _rung(record.attributes.get(RUNG, 0), evaluations)
    goals = record.goals if rung is None else goals_on(rung, evaluations, record.goals)
    front = front_of(evaluations, goals, rung)
    return RunRecord(
        folder=folder,
        goals=goals,
        evaluations=evaluations,
        front=front,
        end=None if end is None else str(end),
    )


def _rung(kept: Json, evaluations: Sequence[Evaluation]) -> Rung | None:
    """The rung whose front is the run's; earlier versions kept its number alone."""
    if isinstance(kept, Mapping):
        return Rung.from_json(kept)
    return next((e.rung for e in evaluations if e.rung.number == kept), None)


def check_is_run(folder: Path) -> None:
    """Refuses a folder that no search has written.

    Raises:
        JournalError: There is no run.
    """
    if not (folder / JOURNAL).is_file():
        raise JournalError(
            f"a run folder holds {JOURNAL}, got {folder} without; give the folder that "
            "`paredown search` named, such as runs/digits"
        )


def bundle_places(folder: Path, keys: Collection[str]) -> dict[str, str]:
    """By key where a bundle lies, as a link from the run's folder; without those not written yet."""
    return {key: f"{BUNDLES}/{key}/" for key in keys if (folder / BUNDLES / key).is_dir()}
