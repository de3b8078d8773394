"""A search in MLflow: one run for the search, one below it for each evaluation.

One background thread does all the writing, so the search never waits for a database or a server.
MLflow being away never stops a search: the thread tries again until the end; what could not be
written then is told in `problems`, and the study's journal has it all.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.search.display import Outline
from paredown.search.evaluation import Evaluation
from paredown.search.mlflow_store import default_uri, load_mlflow
from paredown.search.mlflow_writer import MlflowWriter, Status, TrackingPlace
from paredown.search.pareto import Front

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


class Tracker:
    """Writes a search to MLflow from a thread of its own; `close` before the program ends."""

    def __init__(self, place: TrackingPlace, outline: Outline) -> None:
        self.uri = place.uri or default_uri(place.run_folder)
        self._place = place
        self._writer = MlflowWriter(place, self.uri, outline)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._problems: list[str] = []
        self._trouble: str | None = None
        self._submitted = 0
        self._written = 0
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._submit("the search's run", self._writer.open)
        self._thread.start()

    def record(self, evaluation: Evaluation, front: Front, hypervolume: float) -> None:
        """Add a finished evaluation and the front as it stands after it."""
        task = lambda: self._writer.record(evaluation, front, hypervolume)  # noqa: E731
        self._submit(f"evaluation {evaluation.number}", task)

    def log_files(self, paths: Sequence[Path]) -> None:
        """Attach files to the search's run, as they are when the writer comes to them."""
        self._submit("files", lambda: self._writer.log_files(tuple(paths)))

    def log_bundle(self, key: str, folder: Path, register_as: str | None = None) -> None:
        """Attach a bundle to its evaluation's run and log its ONNX file as a model."""
        self._submit(f"bundle {key}", lambda: self._writer.log_bundle(key, folder, register_as))

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
        """What went wrong, for the end of the search; empty where everything is in MLflow."""
        missing = self._submitted - self._written
        if not missing:
            return ()
        now = () if self._trouble is None else (self._trouble,)
        return (
            f"{missing} records are not in MLflow at {self.uri}; the study's journal has them "
            "all: bring the server back and run the search again with --resume",
            *self._problems,
            *now,
        )

    def _submit(self, what: str, do: Callable[[], None]) -> None:
        self._submitted += 1
        self._tasks.put(_Task(what, do))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self._attempt(task):
                return

    def _attempt(self, task: _Task) -> bool:
        """Do `task`, again while MLflow is away; False where it still is at the end."""
        mlflow_error = load_mlflow().exceptions.MlflowException
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                task.do()
                # With nothing else to do, what the page shows is brought up to date.
                if self._tasks.empty():
                    self._writer.catch_up()
                self._trouble = None
                self._written += 1
                return True
            except (mlflow_error, OSError) as error:
                self._trouble = f"{task.what}: {str(error)[:300]}"
                if getattr(error, "error_code", "") in _FINAL:
                    self._problems.append(self._trouble)
                    self._trouble = None
                    return True
                if self._closing.is_set():
                    return False
            # Returns at once when the search ends, for one last attempt.
            self._closing.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


@dataclass(frozen=True)
class _Task:
    what: str
    do: Callable[[], None]
