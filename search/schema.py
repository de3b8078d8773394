"""The whole config as frozen records; nothing heavy is imported to check it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from paredown.search.schema_space import SpaceSection
from paredown.search.schema_task import (
    Cifar10Task,
    CustomTask,
    DigitsTask,
    Section,
    TaskSection,
)

Direction = Literal["maximize", "minimize"]

QUALITIES: Mapping[str, Direction] = {
    "accuracy": "maximize",
    "mean_iou": "maximize",
    "loss": "minimize",
    "mse": "minimize",
    "perplexity": "minimize",
}
COSTS = (
    "latency_s",
    "onnx_bytes",
    "packed_bytes",
    "peak_memory_bytes",
    "energy_ratio",
    "macs",
    "bops",
)
LATENCY_ON = "latency_s@"
_SHARES = ("accuracy", "mean_iou")
_RESNETS = ("resnet20", "resnet56")


def _run_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError(
            "must be letters, digits, '.', '_' and '-', and start with a letter or a digit: "
            "it names the run's folder"
        )
    return value


def _device(value: str, info: ValidationInfo) -> str:
    if not value.endswith((".yaml", ".yml")):
        return value
    path = ((info.context or {}).get("folder", Path()) / Path(value).expanduser()).resolve()
    if not path.is_file():
        raise ValueError(f"must be a device's name or a file that exists; there is none at {path}")
    return str(path)


LATENCY_MODELS = ("roofline", "calibrated", "measured")


def _latency(value: str, info: ValidationInfo) -> str:
    if value in LATENCY_MODELS:
        return value
    if not value.endswith(".json"):
        raise ValueError(
            f"must be one of {', '.join(LATENCY_MODELS)}, or a calibration file (.json) that "
            "`paredown calibrate` wrote"
        )
    path = ((info.context or {}).get("folder", Path()) / Path(value).expanduser()).resolve()
    if not path.is_file():
        raise ValueError(
            f"must be a calibration file that exists; there is none at {path}; write it with "
            "`paredown calibrate`"
        )
    return str(path)


class HardwareSection(Section):
    """What the model shall run on, and how its latency is known."""

    device: Annotated[str, AfterValidator(_device)] = Field(
        "host",
        min_length=1,
        description="host (this machine), a built-in device, or a device file (.yaml).",
    )
    latency: Annotated[str, AfterValidator(_latency)] = Field(
        "calibrated",
        min_length=1,
        description="roofline (from the device file), calibrated (fitted to networks of the space "
        "timed on this machine at the start), measured (every candidate timed here), or the file "
        "that `paredown calibrate` wrote (.json).",
    )
    batch_size: int = Field(
        1, ge=1, le=4096, description="Batch of the exported model: latency, memory and the file."
    )
    threads: int = Field(1, ge=1, le=1024, description="Threads of the runtime that is modelled.")
    also: tuple[Annotated[str, AfterValidator(_device)], ...] = Field(
        (),
        description="Further devices the model must run on, by name or file: each gives a metric "
        "latency_s@NAME from its preset, and the space offers what all of them run.",
    )

    @property
    def latency_metrics(self) -> tuple[str, ...]:
        """Metrics of the further devices; a file is named by its stem."""
        return tuple(f"{LATENCY_ON}{Path(device).stem}" for device in self.also)

    @field_validator("also")
    @classmethod
    def _named_devices_once(cls, also: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "host" in also or info.data.get("device") in also or len(set(also)) < len(also):
            raise ValueError(
                "names devices other than `device`, each once and not as host; `device` has the "
                "metric latency_s already"
            )
        return also


def _default_direction(data: dict[str, Any]) -> Any:
    metric = data.get("metric")
    return "minimize" if _is_cost(str(metric)) else QUALITIES.get(str(metric), "")


def _is_cost(metric: str) -> bool:
    return metric in COSTS or metric.startswith(LATENCY_ON)


class GoalSection(Section):
    """One thing to optimise, with an optional hard bound."""

    metric: str = Field(
        min_length=1,
        description="accuracy, loss, the task's own metric, latency_s, onnx_bytes, packed_bytes, "
        "peak_memory_bytes, energy_ratio, macs, bops, or latency_s@NAME of a device in "
        "hardware.also.",
    )
    direction: Direction = Field(
        default_factory=_default_direction,
        validate_default=True,
        description="maximize or minimize; needed for a metric of your own, known for all others.",
    )
    at_most: float | None = Field(
        None, allow_inf_nan=False, description="Hard upper bound of a minimised metric (SI units)."
    )
    at_least: float | None = Field(
        None, allow_inf_nan=False, description="Hard lower bound of a maximised metric."
    )
    relative: bool = Field(
        False,
        description="The bound is against the uncompressed model: a ratio for costs, a difference "
        "for qualities (accuracy at_least: -0.02 is two points lost).",
    )

    @property
    def is_cost(self) -> bool:
        return _is_cost(self.metric)

    @property
    def bound(self) -> float | None:
        """The hard bound as written, or None."""
        return self.at_least if self.direction == "maximize" else self.at_most

    @model_validator(mode="after")
    def _bound_makes_sense(self) -> GoalSection:
        known = "minimize" if self.is_cost else QUALITIES.get(self.metric)
        if known and self.direction != known:
            raise ValueError(f"{self.metric} is always {known}d; leave `direction` out")
        wrong, right = ("at_most", "at_least")
        if self.direction == "minimize":
            wrong, right = right, wrong
        if getattr(self, wrong) is not None:
            raise ValueError(
                f"{self.metric} is {self.direction}d, so its bound is `{right}`; "
                f"replace `{wrong}`, got {getattr(self, wrong)}"
            )
        if self.relative and self.bound is None:
            raise ValueError(f"`relative` needs a bound; add `{right}` or leave `relative` out")
        self._check_size()
        return self

    def _check_size(self) -> None:
        if self.bound is None:
            return
        if self.is_cost and self.bound <= 0:
            raise ValueError(f"a bound of {self.metric} must be above 0, got {self.bound}")
        if self.metric in _SHARES and not (-1 if self.relative else 0) <= self.bound <= 1:
            raise ValueError(
                f"{self.metric} is a share in [0, 1], got a bound of {self.bound}; "
                "write 0.88 for 88 %"
            )


class SearchSection(Section):
    """How candidates are proposed and evaluated."""

    engine: Literal["ray", "local"] = Field(
        "ray", description="ray (Ray Tune, one machine or a cluster) or local (this process)."
    )
    sampler: Literal["ladder", "nsga2", "nsga3", "tpe", "gp", "random"] = Field(
        "ladder",
        description="Who proposes: ladder starts from predicted damage and learns from every "
        "evaluation.",
    )
    evaluations: int = Field(60, ge=1, description="Candidates to evaluate, references included.")
    time_budget_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Stop asking after this many seconds."
    )
    batch: int = Field(4, ge=1, le=1024, description="Candidates asked for at a time.")
    workers: int = Field(2, ge=1, le=1024, description="Evaluations that run side by side.")
    threads_per_worker: int = Field(1, ge=1, le=256, description="torch threads of a worker.")
    cpus_per_worker: float = Field(1, ge=0, description="CPUs that Ray reserves for a worker.")
    gpus_per_worker: float = Field(
        0.0, ge=0, description="GPUs that Ray reserves for a worker; fractions share one."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the sampler and the statistics.")
    ray_address: str | None = Field(
        None, description="Cluster to join (auto or ray://host:port); null starts a local one."
    )
    rung_images: int = Field(
        1500, ge=1, description="Images of the first score; at most the search split."
    )
    promote_fraction: float = Field(
        0.25, ge=0, le=1, description="Share of candidates rescored on the whole search split."
    )


class TrackingSection(Section):
    """Where MLflow writes."""

    uri: str | None = Field(None, description="Tracking URI; null: SQLite in the run's folder.")
    experiment: str | None = Field(None, description="Experiment; null: the config's name.")
    max_children: int = Field(
        1000, ge=0, description="Above this only front, references and failures become runs."
    )


def _output_folder(path: Path) -> Path:
    return path.expanduser().resolve()


class OutputSection(Section):
    """Where the run's own files go."""

    folder: Annotated[Path, AfterValidator(_output_folder)] = Field(
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
    def _sections_agree(self) -> Config:
        known = ("loss", self.task.metric_name, *COSTS, *self.hardware.latency_metrics)
        for index, goal in enumerate(self.goals):
            if goal.metric not in known:
                _mistake(
                    f"goals[{index}].metric", f"must be one of {', '.join(known)}", goal.metric
                )
        for name, architecture in self.space.architectures.items():
            path = f"space.architectures.{name}"
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
    "QUALITIES",
    "Cifar10Task",
    "Config",
    "CustomTask",
    "DigitsTask",
    "Direction",
    "GoalSection",
    "HardwareSection",
    "OutputSection",
    "SearchSection",
    "TrackingSection",
]
