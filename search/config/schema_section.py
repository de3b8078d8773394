"""What all sections of the config share: frozen, no unknown keys, and nothing that nobody can mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

Value = TypeVar("Value")
"""What YAML gave for a section or a key, not checked yet."""
_LARGEST = 1e15
"""Size of the largest number that can be meant: bytes, seconds and counts are all below."""


class Section(BaseModel):
    """One frozen part of the config; a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _are_meant(cls, values: Value) -> Value:
        """Refuses what YAML reads and pydantic converts, but nobody means: `true` for 1, `.inf`, ""."""
        for key, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(key)
            kinds = set() if field is None else set(_kinds(field.annotation))
            if Any not in kinds and (rule := _why_not_meant(value, kinds)):
                raise PydanticCustomError("at_key", "{rule}", {"rule": rule, "key": key})
        return values


def _kinds(annotation: object) -> Iterator[object]:
    """All types that an annotation names, however deep; those of literal values for these."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        yield from (type(value) for value in inner)
    elif not inner:
        yield annotation
    for each in inner if get_origin(annotation) is not Literal else ():
        yield from _kinds(each)


def _why_not_meant(value: object, kinds: set[object]) -> str | None:
    """Rule, value and remedy, where no value of these kinds can be meant by it."""
    if isinstance(value, list | tuple):
        return next((rule for each in value if (rule := _why_not_meant(each, kinds))), None)
    if isinstance(value, bool) and bool not in kinds and not kinds.isdisjoint({int, float}):
        return f"must be a number, got {str(value).lower()}; write a number"
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, got {value}; leave the key out where nothing limits it"
    if isinstance(value, int | float) and abs(value) > _LARGEST:
        size = f"{value:g}" if isinstance(value, float) else f"one of {value.bit_length()} bits"
        return f"must be a number of size at most {_LARGEST:g}, got {size}; write a smaller one"
    if isinstance(value, str) and not value.strip():
        return "must not be empty; write a value, or leave the key out for its default"
    if isinstance(value, str) and "\0" in value:
        return "must be text without null characters; delete them"
    return None


def resolved(path: Path, folder: Path = Path()) -> Path:
    """The absolute path, from `folder` where it is relative.

    Raises:
        ValueError: It names the home of a user that this machine does not have, or a loop of links.
    """
    try:
        return (folder / path.expanduser()).resolve()
    except RuntimeError as error:
        raise ValueError(
            f"must be a path that this machine can follow: {error}; write it out"
        ) from None


def _from_here(path: Path) -> Path:
    return resolved(path)


RunFolder = Annotated[Path, AfterValidator(_from_here)]
"""Of a run, or of runs: relative to the current folder, not to that of the config."""
