"""The `hardware` section of the config: what the model shall run on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from paredown.search.config.schema_section import Section, resolved

LATENCY_ON = "latency_s@"
LATENCY_MODELS = ("roofline", "calibrated", "measured")


def _device(value: str, info: ValidationInfo) -> str:
    if not value.endswith((".yaml", ".yml")):
        return value
    path = resolved(Path(value), (info.context or {}).get("folder", Path()))
    if not path.is_file():
        raise ValueError(f"must be a device's name or a file that exists; there is none at {path}")
    return str(path)


def _latency(value: str, info: ValidationInfo) -> str:
    if value in LATENCY_MODELS:
        return value
    if not value.endswith(".json"):
        raise ValueError(
            f"must be one of {', '.join(LATENCY_MODELS)}, or a calibration file (.json) that "
            "`paredown calibrate` wrote"
        )
    path = resolved(Path(value), (info.context or {}).get("folder", Path()))
    if not path.is_file():
        raise ValueError(
            f"must be a calibration file that exists; there is none at {path}; write it with "
            "`paredown calibrate`"
        )
    return str(path)


class BatchAxis(Section):
    """A batch of any size in the exported file."""

    price_at: int = Field(1, ge=1, le=4096, description="Batch that costs are for.")


class TimeAxis(Section):
    """A second dimension of any length in the exported file."""

    shortest: int = Field(alias="from", ge=1, description="Shortest length.")
    longest: int = Field(alias="to", ge=2, description="Longest length.")
    price_at: int = Field(ge=1, description="Length that costs are for.")

    @model_validator(mode="after")
    def _is_in_order(self) -> TimeAxis:
        if not self.shortest <= self.price_at <= self.longest:
            raise ValueError(
                f"`price_at` must lie between `from` and `to`, got {self.price_at} of "
                f"{self.shortest} to {self.longest}; set hardware.axes.time.price_at"
            )
        return self

    @property
    def lengths(self) -> tuple[int, int]:
        """The shortest and the longest."""
        return self.shortest, self.longest


class AxesSection(Section):
    """Axes that stay free in the exported file; all others have the sizes of the example."""

    batch: BatchAxis | None = Field(
        None, description="{price_at: 1}: any batch; costs are for `price_at`."
    )
    time: TimeAxis | None = Field(
        None,
        description="{from: 16, to: 512, price_at: 64}: any length of the inputs' second dimension; "
        "costs are for `price_at`, and both ends are verified.",
    )


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
    axes: AxesSection = Field(
        AxesSection(), description="Axes that stay free in the file: `batch`, `time`."
    )
    threads: int = Field(1, ge=1, le=1024, description="Threads of the runtime that is modelled.")
    also: tuple[Annotated[str, AfterValidator(_device)], ...] = Field(
        (),
        description="Further devices the model must run on, by name or file: each gives a metric "
        "latency_s@NAME from its preset, and the space offers what all of them run.",
    )

    @property
    def priced_batch(self) -> int:
        """Batch that costs are for."""
        return self.batch_size if self.axes.batch is None else self.axes.batch.price_at

    @model_validator(mode="after")
    def _has_one_batch(self) -> HardwareSection:
        is_given = "batch_size" in self.model_fields_set
        if is_given and self.priced_batch != self.batch_size:
            raise ValueError(
                f"`batch_size` must be `price_at` of axes.batch, got {self.batch_size} and "
                f"{self.priced_batch}; leave out hardware.batch_size"
            )
        return self

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
