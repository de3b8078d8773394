"""Models in MLflow: what is kept of them, registered, and loaded again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from paredown.search.study.evaluation import Evaluation
from paredown.search.tracking.mlflow_models import PICKED, LoggedBundle, register_picked
from paredown.search.tracking.mlflow_store import connect, default_uri, load_mlflow
from paredown.search.tracking.mlflow_writer import TrackingPlace
from paredown.search.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

Write = Callable[..., Path]
METRICS = {"measured/test_accuracy": 0.97, "measured/latency_s": 2e-5, "latency_ratio": 0.5}
TAGS = {"measured.verdict": "verified", "measured.kernels": "9 QLinearConv"}


@pytest.fixture
def logged(
    run_folder: Path,
    make_evaluations: Callable[[int], tuple[Evaluation, ...]],
    track: Callable[..., Tracker],
    write_bundle: Write,
    tmp_path: Path,
) -> Callable[..., MlflowClient]:
    """(numbers of evaluations whose bundles are logged, fields of the last) -> the store's client."""

    def log(*numbers: int, inputs: Sequence[str] = ("x",), **fields: Any) -> MlflowClient:
        evaluations = make_evaluations(4)

        def more(tracker: Tracker) -> None:
            for number in numbers:
                key = evaluations[number].key
                folder = tmp_path / "bundles" / key
                if not folder.exists():
                    write_bundle(folder, inputs)
                last = fields if number == numbers[-1] else {}
                bundle = {"holds": True, "metrics": METRICS, "tags": TAGS} | last
                tracker.log_bundle(LoggedBundle(key=key, folder=folder, **bundle))

        tracker = track(
            TrackingPlace(run_folder=run_folder, search_id="s"), evaluations, more=more
        )
        assert tracker.problems == ()
        return connect(tracker.uri)

    return log


def the_model(client: MlflowClient) -> Any:
    (model,) = client.search_logged_models([e.experiment_id for e in client.search_experiments()])
    return model


def test_a_bundle_that_holds_is_a_model_with_its_figures(
    logged: Any, make_evaluations: Callable[[int], tuple[Evaluation, ...]], tmp_path: Path
) -> None:
    client = logged(3)
    model = the_model(client)
    run = client.get_run(model.source_run_id)
    files = {file.path for file in client.list_artifacts(run.info.run_id, "bundle")}
    assert files == {"bundle/model.onnx", "bundle/card.json"}
    assert METRICS.items() <= run.data.metrics.items()
    assert TAGS.items() <= run.data.tags.items()
    evaluated = make_evaluations(4)[3].metrics
    assert {metric.key: metric.value for metric in model.metrics} == {**evaluated, **METRICS}
    assert TAGS.items() <= model.tags.items()
    assert model.status == "READY"
    folder = model.artifact_location.removeprefix("file://")
    written = tmp_path / "bundles" / run.data.tags["paredown.key"] / "model.onnx"
    assert onnx.load(f"{folder}/model.onnx") == onnx.load(written)


def test_a_broken_bundle_is_told_on_its_run_and_is_no_model(logged: Any) -> None:
    client = logged(3, holds=False, tags={"measured.verdict": "mismatch"}, register_as="toy")
    everywhere = [each.experiment_id for each in client.search_experiments()]
    assert not client.search_logged_models(everywhere)
    assert not client.search_registered_models()
    (run,) = client.search_runs(everywhere, "tags.`measured.verdict` = 'mismatch'")
    assert METRICS.items() <= run.data.metrics.items()


@pytest.mark.parametrize("inputs", [("x",), ("x", "mask")])
def test_a_registered_model_is_loaded_by_its_alias_and_predicts(
    logged: Any, inputs: tuple[str, ...], run_folder: Path
) -> None:
    client = logged(3, inputs=inputs, register_as="toy", is_picked=True)
    version = client.get_model_version_by_alias("toy", PICKED)
    assert version.run_id == the_model(client).source_run_id
    assert TAGS.items() <= version.tags.items()
    mlflow = load_mlflow()
    mlflow.set_tracking_uri(default_uri(run_folder))
    mlflow.set_registry_uri(default_uri(run_folder))
    try:
        model = mlflow.pyfunc.load_model(f"models:/toy@{PICKED}")
        proto = mlflow.onnx.load_model(f"models:/toy@{PICKED}")
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    assert [value.name for value in proto.graph.input] == list(inputs)
    row = np.array([[1.0, 2.0, 3.0]], np.float32)
    given = row if len(inputs) == 1 else {"x": row, "mask": row}
    np.testing.assert_array_equal(model.predict(given)["y"], 2 * len(inputs) * row)
    example = model.input_example
    assert model.predict(example)["y"].shape == (1, 3)
    spec = model.metadata.signature.inputs.inputs[0]
    assert (spec.shape, spec.type) == ((1, 3), np.dtype(np.float32))
    with pytest.raises(Exception, match="shape"):
        model.predict(
            np.zeros((1, 4), np.float32) if len(inputs) == 1 else {"x": row, "mask": row[:, :2]}
        )


def test_a_search_that_goes_on_registers_each_model_once(logged: Any) -> None:
    for _ in range(2):
        client = logged(2, 3, register_as="toy", is_picked=True)
    versions = client.search_model_versions("name = 'toy'")
    assert len(versions) == 1
    assert (
        len(
            client.search_logged_models(
                [each.experiment_id for each in client.search_experiments()]
            )
        )
        == 2
    )


def test_what_is_picked_later_takes_the_alias(
    logged: Any,
    make_evaluations: Callable[[int], tuple[Evaluation, ...]],
    run_folder: Path,
    tmp_path: Path,
    write_bundle: Write,
) -> None:
    client = logged(2, register_as="toy", is_picked=True)
    first = client.get_model_version_by_alias("toy", PICKED)
    other = make_evaluations(4)[3].key
    bundle = write_bundle(tmp_path / "picked")
    uri = default_uri(run_folder)
    version = register_picked(uri, "toy", run_folder, other, bundle)
    assert str(client.get_model_version_by_alias("toy", PICKED).version) == version
    assert version != str(first.version)
    again = register_picked(uri, "toy", run_folder, make_evaluations(4)[2].key, bundle)
    assert again == str(first.version)
    assert register_picked(uri, "toy", run_folder, "unknown", bundle) is None
