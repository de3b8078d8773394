"""The ledger of a running search: every outcome goes to the journal, the front and MLflow, in order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import filelock
import numpy as np

from paredown.hardware_models.timing.measure import MeasureError
from paredown.search.config.reading import tracking_uri
from paredown.search.evaluating.facts import problem
from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind, Goal, Spent, of_rung
from paredown.search.study.journal import Journal, JournalError
from paredown.search.study.pareto import Front, front_of, goals_on, hypervolume, reference_point
from paredown.search.study.run_record import END, JOURNAL, RUNG
from paredown.search.study.rung import Rung
from paredown.search.study.trial_words import trial_parameters
from paredown.search.tracking.mlflow_writer import TrackingPlace
from paredown.search.tracking.tracker import Tracker
from paredown.spaces.system.foreign_text import without_passwords


class Listener(Protocol):
    """Hears of every evaluation."""

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        """Reports a finished evaluation, the front and its hypervolume, and how many are done."""


class Ledger:
    """Evaluations so far, and everything that must hear of a new one.

    `front` is that of the rung in use, and so are the bounds of `goals`; `hypervolumes` has one value an
    evaluation.
    """

    def __init__(
        self,
        workbench: Workbench,
        goals: tuple[Goal, ...],
        journal: Journal,
        tracker: Tracker,
        listener: Listener,
        rung: Rung,
    ) -> None:
        self.goals = self._first_goals = goals
        self.tracker = tracker
        self.over_bound = 0
        self.hypervolumes: list[float] = []
        self.evaluations: list[Evaluation] = [e.evaluation for e in journal.read()]
        self.front = Front(goals, rung)
        self._workbench = workbench
        self._journal = journal
        self._listener = listener
        self._reference: np.ndarray | None = None

    @classmethod
    def open(
        cls,
        workbench: Workbench,
        goals: tuple[Goal, ...],
        folder: Path,
        listener: Listener,
        *,
        resume: bool,
        lock: filelock.BaseFileLock,
    ) -> Ledger:
        """The ledger of the run in `folder`, with what a resumed run holds already.

        Args:
            lock: What `hold` gave for the folder's journal.

        Raises:
            JournalError: The folder holds another study, or one about something else.
        """
        journal = Journal.open(folder / JOURNAL, goals, resume=resume, lock=lock)
        try:
            journal.keep_problem(problem(workbench))
        except JournalError:
            journal.close()
            raise
        config = workbench.config
        place = TrackingPlace(
            run_folder=folder,
            search_id=journal.search_id,
            uri=tracking_uri(config),
            shown_uri=config.tracking.uri,
            experiment=config.tracking.experiment or config.name,
            max_children=config.tracking.max_children,
        )
        outline = Outline.of_space(workbench.space)
        journal.set_attribute("cost_model", workbench.cost_models.latency_model.source)
        journal.set_attribute(END, "")
        tracker = Tracker(place, outline)
        return cls(workbench, goals, journal, tracker, listener, workbench.rungs[0])

    def start(self, uncompressed: Evaluation) -> None:
        """Fix the hypervolume's reference point; replay a resumed run, or tell the first evaluation."""
        self._reference = reference_point(self.goals, uncompressed, uncompressed)
        earlier = list(self.evaluations)
        self.evaluations = []
        for evaluation in earlier:
            self._share(evaluation)
        if not earlier:
            self._keep(uncompressed)

    def tell(self, job: Job, outcome: Outcome) -> Evaluation:
        """The evaluation that an outcome makes, on disk when this returns; without a price a failure."""
        evaluation = evaluation_of(self._workbench, job, outcome, len(self.evaluations))
        self._keep(evaluation)
        return evaluation

    def settled(self, rung: Rung) -> dict[str, Evaluation]:
        """Evaluations of a rung by key, but those that are lost."""
        return {e.key: e for e in of_rung(self.evaluations, rung) if not e.is_lost}

    def lost(self, rung: Rung) -> dict[str, Evaluation]:
        """By key those whose worker ended and that were never scored since: to be asked again."""
        settled = self.settled(rung)
        return {e.key: e for e in of_rung(self.evaluations, rung) if e.key not in settled}

    def use_rung(self, rung: Rung) -> None:
        """Make the front that of another rung, complete now.

        Its members become the ones marked in MLflow.
        """
        self._journal.set_attribute(RUNG, rung.to_json())
        self.goals = goals_on(rung, self.evaluations, self._first_goals)
        self.front = front_of(self.evaluations, self.goals, rung)
        for member in self.front.members:
            self.tracker.record(member, self.front, self._volume())

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Note how the search ended, let MLflow catch up, and release the journal."""
        try:
            self._journal.set_attribute(END, status)
            self.tracker.close(status)
        finally:
            self._journal.close()

    def _keep(self, evaluation: Evaluation) -> None:
        named = trial_parameters(self._workbench.space, evaluation.candidate)
        self._journal.append(evaluation, *named)
        self._share(evaluation)

    def _share(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)
        self.front = self.front.add(evaluation)
        volume = self._volume()
        self.hypervolumes.append(volume)
        self.tracker.record(evaluation, self.front, volume)
        self._listener.told(evaluation, self.front, volume, len(self.evaluations))

    def _volume(self) -> float:
        return 0.0 if self._reference is None else hypervolume(self.front, self._reference)


def evaluation_of(workbench: Workbench, job: Job, outcome: Outcome, number: int) -> Evaluation:
    """The evaluation that an outcome makes, with the candidate's costs; without a price a failure."""
    metrics: dict[str, float] = {}
    failure = outcome.failure
    if failure is None:
        metrics, failure = _price(workbench, job)
    score = outcome.score if failure is None else None
    if score is not None:
        metrics |= {workbench.task.metric.name: score.metric, "loss": score.loss}
        failure = _not_finite(metrics)
    return Evaluation(
        number=number,
        key=job.candidate.key,
        candidate=job.candidate,
        kind=job.kind,
        label=job.label,
        rung=job.rung,
        metrics=metrics if failure is None else {},
        failure=failure and _without_passwords(failure),
        trained=None if score is None else score.trained,
        curve=() if score is None else score.curve,
        duration_s=outcome.duration_s,
        spent=Spent() if score is None else score.spent,
    )


def _price(workbench: Workbench, job: Job) -> tuple[dict[str, float], Failure | None]:
    try:
        return workbench.price(job.candidate), None
    except MeasureError as error:
        return {}, Failure.of_text(FailureKind.NO_PRICE, str(error))


def _not_finite(metrics: Mapping[str, float]) -> Failure | None:
    broken = [f"{name} {value:g}" for name, value in metrics.items() if not math.isfinite(value)]
    if not broken:
        return None
    said = (
        f"metrics must be finite numbers, got {' and '.join(broken)}; check the data and the loss"
    )
    return Failure(kind=FailureKind.NOT_FINITE, sentence=said)


def _without_passwords(failure: Failure) -> Failure:
    sentence, where = without_passwords(failure.sentence), without_passwords(failure.where)
    return replace(failure, sentence=sentence, where=where)
