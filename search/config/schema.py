"""The whole config as frozen records; nothing heavy is imported to check it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from paredown.search.config.qualities import LOSS
from paredown.search.config.schema_goals import COSTS, GoalSection
from paredown.search.config.schema_hardware import HardwareSection
from paredown.search.config.schema_recovery import RecoverySection
from paredown.search.config.schema_section import RunFolder, Section
from paredown.search.config.schema_space import SpaceSection
from paredown.search.config.schema_task import (
    IMPORT_PATH,
    Cifar10Task,
    CustomTask,
    DigitsTask,
    HuggingFaceTask,
    TaskSection,
)
from paredown.spaces.system.foreign_text import without_passwords

_RESNETS = ("resnet20", "resnet56")
SAMPLERS = ("pareto", "nsga2", "nsga3", "tpe", "gp", "random")


def _run_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError(
            "must be letters, digits, '.', '_' and '-', and start with a letter or a digit: "
            "it names the run's folder"
        )
    return value


def _registered_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", value):
        raise ValueError(
            "must be letters, digits, spaces, '.', '_' and '-', and start with a letter or a digit: "
            "it names a model in MLflow's registry"
        )
    return value


def _sampler_or_import_path(value: str) -> str:
    if value not in SAMPLERS and not IMPORT_PATH.fullmatch(value):
        names = ", ".join(map(repr, SAMPLERS))
        now = "; pareto takes the place of ladder" if value == "ladder" else ""
        raise ValueError(f"must be one of {names} or your package.module:factory{now}")
    return value


def _computing_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("must be cpu, cuda, cuda:1 (a GPU by its number) or auto")
    return value


def _share_of_gpus(value: float | None) -> float | None:
    if value is not None and value > 1 and value != round(value):
        raise ValueError("must be a share of one GPU, at most 1, or a whole number of GPUs")
    return value


class SearchSection(Section):
    """How candidates are proposed and evaluated."""

    engine: Literal["ray", "local"] = Field(
        "ray",
        description="ray (Ray Tune, one machine or a cluster) or local (processes on this machine; "
        "the same seed gives the same search, also where it is killed and resumed).",
    )
    sampler: Annotated[str, AfterValidator(_sampler_or_import_path)] = Field(
        "pareto",
        description="Who proposes: pareto knows costs exactly, starts from predicted damage and learns "
        "from every evaluation (where all goals are costs it is nsga2); nsga2, nsga3, tpe, gp and random "
        "are Optuna's; package.module:factory is your own, called with (distributions, directions, "
        "seed), imported from task.code_folder (built-in tasks: from the current folder).",
    )
    evaluations: int = Field(
        60,
        ge=1,
        description="Candidates to evaluate. The three references count and are always evaluated, so "
        "1 and 2 mean 3; rescoring on the whole search split comes on top.",
    )
    time_budget_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Stop asking after this many seconds."
    )
    evaluation_timeout_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds after which an evaluation that is still going on has failed; null: 20 "
        "times the slowest reference's, at least 60. Training has no limit.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop asking once so many evaluations have let the hypervolume grow by less than a "
        "thousandth; null: go on to the last one.",
    )
    initial: Path | None = Field(
        None,
        description="File of candidates to begin with, relative to the current folder: the front.json of "
        "another run, or a JSON list of candidates. Those outside the space are left out.",
    )
    batch: int = Field(4, ge=1, le=1024, description="Candidates asked for at a time.")
    workers: int = Field(2, ge=1, le=1024, description="Evaluations that run side by side.")
    threads_per_worker: int = Field(1, ge=1, le=256, description="torch threads of a worker.")
    cpus_per_worker: float = Field(
        1, ge=0, description="CPUs that Ray reserves for a worker; a local cluster rounds up."
    )
    device: Annotated[str, AfterValidator(_computing_device)] = Field(
        "cpu",
        description="Where models are scored, statistics collected and layers solved: cpu, cuda, "
        "cuda:1, or auto: cuda where torch sees a GPU, else cpu. What the result is for is "
        "hardware.device.",
    )
    gpus_per_worker: Annotated[float | None, AfterValidator(_share_of_gpus)] = Field(
        None,
        ge=0,
        description="GPUs that Ray reserves for a worker; fractions share one. null: with device "
        "cuda an equal share of the cluster's GPUs, else 0. With device cpu they are for a metric or "
        "data of your own that use them.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the sampler and the statistics.")
    ray_address: str | None = Field(
        None,
        description="Cluster to join: auto, host:port, or ray://host:port, which needs the extra "
        "`client`; null starts a local one. One of "
        "its nodes must have what a worker asks for when the search begins.",
    )
    rung_images: int = Field(
        1500, ge=1, description="Images of the first score; at most the search split."
    )
    promote_fraction: float = Field(
        0.25, ge=0, le=1, description="Share of candidates rescored on the whole search split."
    )


class TrackingSection(Section):
    """Where MLflow writes."""

    uri: str | None = Field(
        None,
        description="URI of a database or server; null: SQLite in the run's folder. A password "
        "stands in it as ${NAME}, a variable of the environment.",
    )
    experiment: str | None = Field(None, description="Experiment; null: the config's name.")
    max_children: int = Field(
        1000, ge=0, description="Above this only front, references and failures become runs."
    )
    # pydantic's classes have a method `register`.
    register_as: Annotated[str, AfterValidator(_registered_name)] | None = Field(
        None,
        alias="register",
        description="Registered model whose versions the models of the front become, with the alias "
        "'picked' for one; null: none is registered.",
    )

    @field_validator("uri")
    @classmethod
    def _has_no_password(cls, uri: str | None) -> str | None:
        masked = uri and without_passwords(uri)
        if masked != uri:
            raise ValueError(
                "must hold its password as ${NAME}, as the config is written to the run's folder and "
                f"to MLflow, got {masked}; export the password and write ${{ITS_NAME}} here"
            )
        return uri


class OutputSection(Section):
    """Where the run's own files go."""

    folder: RunFolder = Field(
        Path("runs"),
        validate_default=True,
        description="Runs are written to <folder>/<name>; relative to the current folder.",
    )


class Config(Section):
    """One search, complete: what a YAML file says, with every default filled in."""

    task: TaskSection = Field(description="Model, data and metric.")
    name: Annotated[str, AfterValidator(_run_name)] = Field(
        default_factory=lambda data: getattr(data.get("task"), "name", "run"),
        description="Name of the run and of its folder; the task's name by default.",
    )
    space: SpaceSection = Field(SpaceSection(), description="What the search may change.")
    hardware: HardwareSection = Field(HardwareSection(), description="The target device.")
    goals: tuple[GoalSection, ...] = Field(description="Two or more things to optimise.")
    search: SearchSection = Field(SearchSection(), description="How it searches.")
    recovery: RecoverySection | None = Field(
        None, description="Training of the leading candidates; null: nothing is trained."
    )
    tracking: TrackingSection = Field(TrackingSection(), description="MLflow.")
    output: OutputSection = Field(default_factory=OutputSection, description="The run's files.")

    @field_validator("goals")
    @classmethod
    def _two_distinct_goals(cls, goals: tuple[GoalSection, ...]) -> tuple[GoalSection, ...]:
        names = [goal.metric for goal in goals]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"each metric may be a goal once; delete one of the two {twice!r}")
        if len(goals) < 2:
            raise ValueError("must be at least two; add for example {metric: onnx_bytes}")
        return goals

    @model_validator(mode="after")
    def _gpus_can_be_reserved(self) -> Config:
        device, gpus = self.search.device, self.search.gpus_per_worker
        if self.search.engine == "ray" and device.startswith("cuda"):
            if device != "cuda":
                rule = "with engine ray, which gives each worker its GPU, must be cuda"
                _mistake("search.device", rule, device)
            if gpus == 0:
                rule = "must be above 0 with search.device cuda; delete it for equal shares"
                _mistake("search.gpus_per_worker", rule, gpus)
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        known = (LOSS.name, self.task.metric_name, *COSTS, *self.hardware.latency_metrics)
        for index, goal in enumerate(self.goals):
            if goal.metric not in known:
                _mistake(
                    f"goals[{index}].metric", f"must be one of {', '.join(known)}", goal.metric
                )
        for name, architecture in self.space.architectures.items():
            path = f"space.architectures.{name}"
            if isinstance(self.task, HuggingFaceTask):
                _mistake(path, "task hf has one network; delete space.architectures", name)
            if isinstance(self.task, Cifar10Task):
                if architecture.model not in (None, *_RESNETS):
                    _mistake(f"{path}.model", f"must be one of {_RESNETS}", architecture.model)
                if architecture.kwargs:
                    _mistake(
                        f"{path}.kwargs", "cifar10 has none; set `model`", architecture.kwargs
                    )
            elif architecture.model is not None:
                rule = "is for task cifar10; set `kwargs` of the model factory instead"
                _mistake(f"{path}.model", rule, architecture.model)
            if isinstance(self.task, DigitsTask) and architecture.weights is not None:
                _mistake(f"{path}.weights", "digits trains its own; delete it", "a file")
        return self


def _mistake(path: str, rule: str, value: object) -> None:
    raise PydanticCustomError("at_path", "{rule}", {"rule": rule, "path": path, "value": value})


__all__ = [
    "COSTS",
    "Cifar10Task",
    "Config",
    "CustomTask",
    "DigitsTask",
    "GoalSection",
    "HardwareSection",
    "HuggingFaceTask",
    "OutputSection",
    "SearchSection",
    "TrackingSection",
]
