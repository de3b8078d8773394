"""Searches written to MLflow, and what is found there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import Front, hypervolume, reference_point
from paredown.search.tracking.mlflow_writer import TrackingPlace
from paredown.search.tracking.tracker import Tracker

if TYPE_CHECKING:
    # MLflow itself is imported by `load_mlflow` alone, which turns its telemetry off first.
    from mlflow import MlflowClient
    from mlflow.entities import Run


@pytest.fixture
def run_folder(tmp_path: Path, empty_store: Path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    shutil.copy(empty_store, folder)
    return folder


@pytest.fixture
def outline(layer_weights: Mapping[str, int]) -> Outline:
    return Outline(layer_weights=layer_weights, segments=("stem",), widths={})


@pytest.fixture
def track(outline: Outline, goals: tuple[Goal, ...]) -> Callable[..., Tracker]:
    """(place, evaluations, more to do with the tracker) -> the closed tracker of a search of them."""

    def carry_out(
        place: TrackingPlace,
        evaluations: Iterable[Evaluation],
        *,
        more: Callable[[Tracker], None] = lambda tracker: None,
    ) -> Tracker:
        tracker = Tracker(place, outline)
        first, *others = evaluations
        worst = reference_point(goals, first, first)
        front = Front(goals)
        for evaluation in (first, *others):
            front = front.add(evaluation)
            tracker.record(evaluation, front, hypervolume(front, worst))
        more(tracker)
        tracker.close(timeout_s=180)
        return tracker

    return carry_out


@pytest.fixture
def children_of() -> Callable[..., list[Run]]:
    """(client, id of a search's run, more of a filter) -> the runs below it."""

    def find(client: MlflowClient, parent: str, extra: str = "") -> list[Run]:
        run = client.get_run(parent)
        text = f"tags.`mlflow.parentRunId` = '{parent}'{extra}"
        experiments = [run.info.experiment_id]
        return list(client.search_runs(experiments, filter_string=text, max_results=5000))

    return find


@pytest.fixture
def write_bundle() -> Callable[..., Path]:
    """(folder, names of the inputs) -> a bundle whose model adds its inputs up, times two."""

    def write(folder: Path, inputs: Sequence[str] = ("x",)) -> Path:
        folder.mkdir(parents=True)
        twice = numpy_helper.from_array(2 * np.eye(3, dtype=np.float32), "twice")
        graph = helper.make_graph(
            [
                helper.make_node("Sum", list(inputs), ["sum"]),
                helper.make_node("MatMul", ["sum", "twice"], ["y"]),
            ],
            "double",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in inputs],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
            [twice],
        )
        opsets = [helper.make_opsetid("", 21)]
        onnx.save(
            helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx"
        )
        (folder / "card.json").write_text("{}")
        return folder

    return write
