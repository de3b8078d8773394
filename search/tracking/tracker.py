"""A search in MLflow: one run for the search, one below it for each evaluation.

One background thread does all the writing, so the search never waits for a database or a server. What
it needs is imported before it starts: a thread that imports leaves modules half there for all others.
MLflow being away never stops a search: the thread tries again until the end; what could not be
written then is reported in `problems`, and the study's journal has it all.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front
from paredown.search.tracking.mlflow_imports import load_all
from paredown.search.tracking.mlflow_models import LoggedBundle
from paredown.search.tracking.mlflow_store import default_uri, load_mlflow
from paredown.search.tracking.mlflow_writer import MlflowWriter, Status, TrackingPlace
from paredown.spaces.system.foreign_text import without_passwords

# Answers that no second attempt will change; anything else may be a server that is away.
_FINAL = (
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "BAD_REQUEST",
    "FEATURE_DISABLED",
)
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_SHOWN = 5
"""Refusals that are reported in full; one cause often refuses everything."""


class Tracker:
    """Writes a search to MLflow from a thread of its own; `close` before the program ends."""

    def __init__(self, place: TrackingPlace, outline: Outline) -> None:
        self.uri = place.uri or default_uri(place.run_folder)
        self._shown_uri = place.shown_uri or without_passwords(self.uri)
        self._place = place
        self._writer = MlflowWriter(place, self.uri, outline)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        # Guards the four below, and wakes who waits for the writer.
        self._progress = threading.Condition()
        self._refused: tuple[str, ...] = ()
        self._trouble: str | None = None
        self._submitted = 0
        self._written = 0
        load_all()
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._submit("the search's run", self._writer.open)
        self._thread.start()

    def record(self, evaluation: Evaluation, front: Front, hypervolume: float) -> None:
        """Add a finished evaluation and the front as it stands after it."""
        self._submit(
            f"evaluation {evaluation.number}",
            lambda: self._writer.record(evaluation, front, hypervolume),
        )

    def log_files(self, paths: Sequence[Path]) -> None:
        """Attach files to the search's run, as they are when the writer comes to them."""
        self._submit("files", lambda: self._writer.log_files(tuple(paths)))

    def log_text(self, name: str, text: str) -> None:
        """Attach a file of that name and text to the search's run."""
        self._submit(name, lambda: self._writer.log_text(name, text))

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Add figures of the whole search to its run."""
        self._submit("figures", lambda: self._writer.log_metrics(values))

    def log_bundle(self, bundle: LoggedBundle) -> None:
        """Attach what verifying found to the evaluation's run; a bundle that holds becomes a model."""
        self._submit(f"bundle {bundle.key}", lambda: self._writer.log_bundle(bundle))

    def drain(self, timeout_s: float = 60.0) -> None:
        """Wait until all given so far is written or refused, MLflow is away, or time is up."""
        with self._progress:
            self._progress.wait_for(
                lambda: not self._waiting or self._trouble is not None, timeout_s
            )

    def close(self, status: Status = "FINISHED", timeout_s: float = 120.0) -> None:
        """Write what is left, end the search's run and stop; give up after `timeout_s`."""
        self._submit("the end of the search", lambda: self._writer.finish(status))
        self._tasks.put(None)
        self._closing.set()
        self._thread.join(timeout_s)

    @property
    def parent_run_id(self) -> str | None:
        """MLflow's id of the search's run, None until it is written."""
        return self._writer.parent_run_id

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not in MLflow and why; empty where everything is, or is still on its way there.

        Before asking in the midst of a search, `drain`.
        """
        with self._progress:
            refused, away, waiting = self._refused, self._trouble, self._waiting
        is_lost = away is not None or self._closing.is_set()
        missing = len(refused) + (waiting if is_lost else 0)
        if missing:
            remedy = (
                f"{missing} records are not in MLflow at {self._shown_uri}; the study's journal has them "
                "all: once MLflow can be written, run the search again with --resume"
            )
            return (remedy, *refused[:_SHOWN], *([] if away is None else [away]))
        if waiting:
            return (f"{waiting} records were still on their way to MLflow at {self._shown_uri}",)
        return ()

    @property
    def _waiting(self) -> int:
        return self._submitted - self._written - len(self._refused)

    def _submit(self, what: str, do: Callable[[], None]) -> None:
        with self._progress:
            self._submitted += 1
        self._tasks.put(_Task(what, do))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self._attempt(task):
                return

    def _attempt(self, task: _Task) -> bool:
        """Do `task`, again while MLflow is away; False where it still is at the end, or for good."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                task.do()
                # With nothing else to do, what the page shows is brought up to date.
                if self._tasks.empty():
                    self._writer.catch_up()
                self._note(done=1)
                return True
            except Exception as error:  # the boundary of tracking: it never ends a search
                said = without_passwords(str(error).replace(self.uri, self._shown_uri))[:300]
                trouble = f"{task.what}: {type(error).__name__}: {said}"
                is_final = not _may_pass(error)
                if is_final and self.parent_run_id is not None:
                    self._note(refused=trouble)
                    return True
                self._note(away=trouble)
                # Without the search's own run there is nothing to write anything else to.
                if is_final or self._closing.is_set():
                    return False
            # Returns at once when the search ends, for one last attempt.
            self._closing.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _note(self, done: int = 0, refused: str | None = None, away: str | None = None) -> None:
        """How the last attempt went; a waiting `drain` is woken."""
        with self._progress:
            self._written += done
            self._refused += () if refused is None else (refused,)
            self._trouble = away
            self._progress.notify_all()


def _may_pass(error: Exception) -> bool:
    """Whether a later attempt may succeed: a server or a disk may come back."""
    mlflow_error = load_mlflow().exceptions.MlflowException
    is_answer = getattr(error, "error_code", "") in _FINAL
    return isinstance(error, mlflow_error | OSError) and not is_answer


@dataclass(frozen=True)
class _Task:
    what: str
    do: Callable[[], None]
