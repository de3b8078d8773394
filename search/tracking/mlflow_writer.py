"""What one search writes to MLflow: the search's run, its evaluations' runs, the front.

Each method may be repeated: a run is looked up by its tags before it is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from paredown.search.study.display import Outline, name_of
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front, standing_of
from paredown.search.tracking.mlflow_models import PICKED, LoggedBundle, log_onnx_model, register
from paredown.search.tracking.mlflow_store import connect, experiment_id_of
from paredown.search.tracking.mlflow_text import (
    FOLDER_TAG,
    KEY_TAG,
    NOTE_TAG,
    PARENT_TAG,
    PARETO_TAG,
    RUNG_TAG,
    SEARCH_TAG,
    child_note,
    child_params,
    child_tags,
    parent_note,
)
from paredown.spaces.system.json_values import Json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class TrackingPlace:
    """Where and under which names a search is tracked.

    `search_id` is the journal's: a resumed search finds its run by it. Above `max_children`
    evaluations only the front, references and failures get runs of their own. `shown_uri` stands
    for `uri` in all that is written: without the passwords in it.
    """

    run_folder: Path
    search_id: str
    uri: str | None = None
    shown_uri: str | None = None
    experiment: str = "paredown"
    max_children: int = 1000


class MlflowWriter:
    """The writing itself, used by the tracker's thread alone."""

    def __init__(self, place: TrackingPlace, uri: str, outline: Outline) -> None:
        self.parent_run_id: str | None = None
        self._place = place
        self._uri = uri
        self._outline = outline
        self._children: dict[str, str] = {}
        self._written: set[tuple[str, int]] = set()
        self._on_front: set[str] = set()
        self._evaluations: dict[int, Evaluation] = {}
        self._front: Front | None = None
        self._is_stale = False
        self._client: MlflowClient
        self._experiment_id = ""
        self._steps: set[int] = set()

    @property
    def _parent(self) -> str:
        assert self.parent_run_id is not None
        return self.parent_run_id

    def open(self) -> None:
        """Find the search's run and its children, or make the run."""
        self._client = connect(self._uri)
        folder = self._place.run_folder.resolve()
        artifacts = None if self._place.uri else (folder / "mlartifacts").as_uri()
        self._experiment_id = experiment_id_of(self._client, self._place.experiment, artifacts)
        found = self._search(SEARCH_TAG, self._place.search_id)
        if found:
            parent = found[0].info.run_id
            self._client.update_run(parent, status="RUNNING")
            for child in self._search(PARENT_TAG, parent):
                self._remember(child)
            history = self._client.get_metric_history(parent, "front_size")
            self._steps = {metric.step for metric in history}
        else:
            parent = self._client.create_run(
                self._experiment_id,
                run_name=folder.name,
                tags={SEARCH_TAG: self._place.search_id, FOLDER_TAG: str(folder)},
            ).info.run_id
        self.parent_run_id = parent

    def record(self, evaluation: Evaluation, front: Front, hypervolume: float) -> None:
        """Write the evaluation's run, if it gets one, and the front's size and hypervolume."""
        self._evaluations[evaluation.number] = evaluation
        has_room = len(self._evaluations) <= self._place.max_children
        if has_room or evaluation.kind == "reference" or evaluation.is_failed:
            self._write_child(evaluation)
        self._front, self._is_stale = front, True
        if evaluation.number not in self._steps:
            values = {"hypervolume": hypervolume, "front_size": float(len(front.members))}
            self._client.log_batch(self._parent, metrics=_metrics(values, evaluation.number))
            self._steps.add(evaluation.number)

    def catch_up(self) -> None:
        """Bring the front's tags and the description up to the last evaluation."""
        if not self._is_stale or self._front is None:
            return
        for member in self._front.members:
            self._write_child(member)
        self._tag_front(self._front)
        evaluations = tuple(self._evaluations[n] for n in sorted(self._evaluations))
        note = parent_note(self._front, evaluations, self._children, self._experiment_id)
        self._client.set_tag(self._parent, NOTE_TAG, note)
        self._is_stale = False

    def log_files(self, paths: tuple[Path, ...]) -> None:
        """Attach files to the search's run."""
        for path in paths:
            self._client.log_artifact(self._parent, str(path))

    def log_text(self, name: str, text: str) -> None:
        """Attach a text file called `name` to the search's run."""
        self._client.log_text(self._parent, text, name)

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Add figures of the whole search to its run."""
        self._client.log_batch(self._parent, metrics=_metrics(values, 0))

    def log_bundle(self, bundle: LoggedBundle) -> None:
        """Log metrics and tags to the candidate's run; a bundle that holds also becomes a model."""
        from mlflow.entities import RunTag

        evaluation = self._evaluation_of(bundle.key)
        run_id, model_id = self._child_of(bundle.key), None
        if bundle.holds:
            self._client.log_artifacts(run_id, str(bundle.folder), "bundle")
            model_id = log_onnx_model(self._client, run_id, bundle.folder, bundle.key)
            self._client.set_logged_model_tags(model_id, dict(bundle.tags))
        # With the model's id they are the model's figures as well as the run's.
        self._client.log_batch(
            run_id,
            metrics=_metrics(
                {**evaluation.metrics, **bundle.metrics}, evaluation.rung.number, model_id
            ),
            tags=[RunTag(name, value) for name, value in bundle.tags.items()],
        )
        if model_id is not None and bundle.register_as is not None:
            tags = {KEY_TAG: bundle.key, **bundle.tags}
            version = register(self._client, bundle.register_as, model_id, tags)
            if bundle.is_picked:
                name = bundle.register_as
                self._client.set_registered_model_alias(name, PICKED, version)

    def _evaluation_of(self, key: str) -> Evaluation:
        """A candidate as the front has it, else at its highest rung."""
        same = [e for e in self._evaluations.values() if e.key == key]
        assert self._front is not None
        return standing_of(same, self._front)

    def _child_of(self, key: str) -> str:
        """The run of a candidate, written now if it had none: above `max_children` most have not."""
        if key not in self._children:
            self._write_child(self._evaluation_of(key))
        return self._children[key]

    def finish(self, status: Status) -> None:
        """Catch up and end the search's run; evaluations without a run lead to a table of all."""
        self.catch_up()
        if any(e.key not in self._children for e in self._evaluations.values()):
            self._client.log_dict(self._parent, self._table(), "evaluations.json")
        self._client.set_terminated(self._parent, status)

    def _search(self, tag: str, value: str) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                filter_string=f"tags.`{tag}` = '{value}'",
                page_token=token,
            )
            found += page
            if not (token := page.token):
                return found

    def _remember(self, child: Run) -> None:
        tags = child.data.tags
        self._children[tags[KEY_TAG]] = child.info.run_id
        # A failure is written again: its worker may have been lost, and the candidate asked anew.
        if RUNG_TAG in tags and child.info.status == "FINISHED":
            self._written.add((tags[KEY_TAG], int(tags[RUNG_TAG])))
        if tags.get(PARETO_TAG) == "true":
            self._on_front.add(tags[KEY_TAG])

    def _write_child(self, evaluation: Evaluation) -> None:
        from mlflow.entities import Param, RunTag

        mark = (evaluation.key, evaluation.rung.number)
        # A resumed run goes through lower rungs again, which stand there already.
        if any(key == mark[0] and number >= mark[1] for key, number in self._written):
            return
        run_id = self._children.get(evaluation.key) or self._create_child(evaluation)
        params = child_params(evaluation, self._outline)
        note = child_note(evaluation, self._outline, run_id)
        tags = {NOTE_TAG: note, RUNG_TAG: str(evaluation.rung.number)}
        metrics = dict(evaluation.metrics) | {"duration_s": evaluation.duration_s}
        self._client.log_batch(
            run_id,
            metrics=_metrics(metrics, evaluation.rung.number) + _curve(evaluation),
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        candidate = json.dumps(evaluation.candidate.to_json(), indent=1)
        self._client.log_text(run_id, candidate, "candidate.json")
        self._client.set_terminated(run_id, "FAILED" if evaluation.is_failed else "FINISHED")
        if not evaluation.is_lost:
            self._written.add(mark)

    def _create_child(self, evaluation: Evaluation) -> str:
        run = self._client.create_run(
            self._experiment_id,
            run_name=name_of(evaluation),
            tags=child_tags(evaluation, self._parent),
        )
        self._children[evaluation.key] = run.info.run_id
        return str(run.info.run_id)

    def _tag_front(self, front: Front) -> None:
        for key in front.keys - self._on_front:
            self._client.set_tag(self._children[key], PARETO_TAG, "true")
            self._on_front.add(key)
        for key in self._on_front - front.keys:
            self._client.set_tag(self._children[key], PARETO_TAG, "false")
            self._on_front.discard(key)

    def _table(self) -> dict[str, Json]:
        """Every evaluation as MLflow's table artefact (columns and rows)."""
        evaluations = [self._evaluations[n] for n in sorted(self._evaluations)]
        metrics = sorted({name for e in evaluations for name in e.metrics})
        columns = ["number", "key", "label", "rung", "error", *metrics]
        rows: list[Json] = [
            [
                *(
                    e.number,
                    e.key,
                    e.label,
                    e.rung.number,
                    None if e.failure is None else e.failure.text,
                ),
                *(e.metrics.get(m) for m in metrics),
            ]
            for e in evaluations
        ]
        return {"columns": columns, "data": rows}


def _curve(evaluation: Evaluation) -> list[Metric]:
    """Losses on the way of training, by the steps since the assembled model."""
    if not evaluation.curve:
        return []
    first = evaluation.rung.recipe.steps - evaluation.curve[-1][0]
    # A later rung begins where the one before ended, which stands there already.
    return [
        metric
        for step, loss, held_out_loss in evaluation.curve[bool(first) :]
        for metric in _metrics(
            {"recovery/loss": loss, "recovery/held_out_loss": held_out_loss}, first + step
        )
    ]


def _metrics(values: Mapping[str, float], step: int, model_id: str | None = None) -> list[Metric]:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    # MLflow refuses "@" in a name.
    return [
        Metric(n.replace("@", "/"), v, now_ms, step, model_id=model_id) for n, v in values.items()
    ]
