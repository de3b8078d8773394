"""Bundles as models in MLflow: logged with signature, example and figures, and registered by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paredown.search.tracking.mlflow_store import TrackingError, connect
from paredown.search.tracking.mlflow_text import FOLDER_TAG, KEY_TAG, PARENT_TAG, SEARCH_TAG
from paredown.spaces.system.scratch import scratch_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from onnx import ModelProto, ValueInfoProto

PICKED = "picked"
"""Alias of the version that `export --pick` chose last, until then of the best in the first goal."""


@dataclass(frozen=True, kw_only=True)
class LoggedBundle:
    """What MLflow is given of a verified bundle.

    `metrics` and `tags` go to the candidate's run, and to the model where there is one: that of a
    bundle which holds, in `folder`. `register_as` names the registered model that it becomes a
    version of, with the alias `picked` if `is_picked`.
    """

    key: str
    folder: Path
    holds: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    register_as: str | None = None
    is_picked: bool = False


def log_onnx_model(client: MlflowClient, run_id: str, bundle: Path, key: str) -> str:
    """Log `bundle`/model.onnx as an ONNX model of the run, unless it has one; its MLflow model id.

    What `mlflow.onnx.log_model` does, but through a client with an explicit run, so that no global
    state of MLflow is touched. Nothing is pickled: the flavour stores the ONNX file itself.
    """
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    if run.outputs is not None and run.outputs.model_outputs:
        return str(run.outputs.model_outputs[0].model_id)
    # A run without a model may have the beginning of one: of a process that was killed meanwhile.
    begun = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    logged = next(iter(begun), None) or client.create_logged_model(
        run.info.experiment_id, name=f"paredown-{key}", source_run_id=run_id, tags={KEY_TAG: key}
    )
    with scratch_folder() as scratch:
        folder = scratch / "model"
        _save(bundle, folder, logged, run_id)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    # Last, as the run's having a model says that all of this is done.
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _save(bundle: Path, folder: Path, logged: LoggedModel, run_id: str) -> None:
    import mlflow.onnx
    import onnx
    import onnxruntime
    from mlflow.models import Model

    model = onnx.load(bundle / "model.onnx")
    mlflow.onnx.save_model(
        model,
        folder,
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=run_id,
            model_id=logged.model_id,
        ),
        signature=signature_of(model),
        input_example=_example(model),
        # Named here, as MLflow would otherwise load the model in a new process to infer them.
        pip_requirements=[
            f"onnx=={onnx.__version__}",
            f"onnxruntime=={onnxruntime.__version__}",
        ],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )


def signature_of(model: ModelProto) -> ModelSignature:
    """Shapes and types of inputs and outputs, with the batch size that the file is made for.

    A single input has no name, so that `predict` takes an array; several are given by name.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def _schema(values: Iterable[ValueInfoProto], *, is_named: bool) -> Schema:
        found = _tensors(values).items()
        return Schema([TensorSpec(t, s, name if is_named else None) for name, (t, s) in found])

    return ModelSignature(
        inputs=_schema(model.graph.input, is_named=len(model.graph.input) > 1),
        outputs=_schema(model.graph.output, is_named=True),
    )


def _example(model: ModelProto) -> np.ndarray | dict[str, np.ndarray]:
    """Zeros of the right shapes: a row of the user's data is not ours to hand on."""
    made = {
        name: np.zeros([max(size, 1) for size in shape], dtype)
        for name, (dtype, shape) in _tensors(model.graph.input).items()
    }
    return next(iter(made.values())) if len(made) == 1 else made


def _tensors(values: Iterable[ValueInfoProto]) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape by name; -1 where a size is open."""
    from onnx.helper import tensor_dtype_to_np_dtype

    def _read(value: ValueInfoProto) -> tuple[np.dtype, tuple[int, ...]]:
        kind = value.type.tensor_type
        sizes = (d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        return tensor_dtype_to_np_dtype(kind.elem_type), tuple(sizes)

    return {value.name: _read(value) for value in values}


def register(client: MlflowClient, name: str, model_id: str, tags: Mapping[str, str]) -> str:
    """The version of the registered model `name` that a logged model is, made where it is none."""
    logged = client.get_logged_model(model_id)
    run_id = logged.source_run_id
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name)
    known = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if known:
        return str(known[0].version)
    # A database looks a `models:/` source up in MLflow's global store, not in its own; a server
    # takes nothing else for a local folder.
    is_server = client.tracking_uri.startswith("http")
    source = f"models:/{model_id}" if is_server else logged.artifact_location
    made = client.create_model_version(
        name, source=source, run_id=run_id, model_id=model_id, tags=dict(tags)
    )
    return str(made.version)


def register_picked(uri: str, name: str, run_folder: Path, key: str, bundle: Path) -> str | None:
    """Gives the candidate `key` of a run the alias `picked`; its version, None without a run in MLflow.

    A model that the search did not register, as it is not on the front, is logged and registered now.

    Raises:
        TrackingError: MLflow refuses it, or is away.
    """
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        run_id = _run_of(client, run_folder, key)
        if run_id is None:
            return None
        model_id = log_onnx_model(client, run_id, bundle, key)
        version = register(client, name, model_id, {KEY_TAG: key})
        client.set_registered_model_alias(name, PICKED, version)
    except MlflowException as error:
        raise TrackingError(f"{name} must be writable in MLflow, got: {error.message}") from error
    return version


def _run_of(client: MlflowClient, run_folder: Path, key: str) -> str | None:
    experiments = [each.experiment_id for each in client.search_experiments()]
    folder = str(run_folder.resolve())
    parents = client.search_runs(experiments, f"tags.`{FOLDER_TAG}` = '{folder}'")
    for parent in parents:
        if SEARCH_TAG in parent.data.tags:
            below = f"tags.`{PARENT_TAG}` = '{parent.info.run_id}' and tags.`{KEY_TAG}` = '{key}'"
            for child in client.search_runs(experiments, below):
                return str(child.info.run_id)
    return None
