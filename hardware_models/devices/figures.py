"""Figures of a device file: each with its source and how far it can be trusted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Confidence = Literal["measured", "datasheet", "derived", "guess"]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """A frozen part of a device file; unknown keys are errors, and so are numbers without end."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rate(Record):
    """A figure above zero in the unit its name gives, with its source."""

    value: Positive
    source: str = Field(min_length=3)
    confidence: Confidence


class Overhead(Record):
    """A figure that may be zero, in the unit its name gives, with its source."""

    value: NotNegative
    source: str = Field(min_length=3)
    confidence: Confidence
