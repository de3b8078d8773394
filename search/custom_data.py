"""Reads what the user's data factory returns into splits.

The factory returns a mapping: `train`, `search` and `test` (each a pair (inputs, targets), a sized
dataset of such pairs row by row, or a function without arguments that returns one of these), and
optionally `calibration` (rows to take statistics from; else drawn from train) and `prepare` (a
function from stored inputs to what the model takes, per batch).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.search.splits import DataError, Prepare, Split, Splits, as_they_are

_NEEDED = ("train", "search", "test")
_OPTIONAL = ("calibration", "prepare")


def read_splits(data: Any, source: str, calibration_rows: int, seed: int) -> Splits:
    """The splits in what the factory `source` returned; calibration is shuffled with `seed`.

    A split that is given as a function is only opened when it is used, so `test` stays unread.

    Raises:
        DataError: A split is missing or its form is none of those above.
    """
    keys = set(data) if isinstance(data, Mapping) else set()
    if not keys or keys - {*_NEEDED, *_OPTIONAL} or not keys.issuperset(_NEEDED):
        got = sorted(map(str, keys)) if keys else type(data).__name__
        raise DataError(
            f"{source} must return a mapping with {', '.join(_NEEDED)} and, if you like, "
            f"{', '.join(_OPTIONAL)}, got {got}"
        )
    prepare = data.get("prepare")
    open_split = functools.partial(_open, prepare=prepare, source=source)
    part = "calibration" if "calibration" in data else "train"
    calibration = open_split(data[part], part=part)
    return Splits(
        calibration=calibration.shuffled(
            len(calibration) if "calibration" in data else calibration_rows, seed
        ),
        search=open_split(data["search"], part="search"),
        open_train=functools.partial(open_split, data["train"], part="train"),
        open_test=functools.partial(open_split, data["test"], part="test"),
    )


def _open(value: Any, *, part: str, prepare: Any, source: str) -> Split:
    if callable(value):
        value = value()
    # A pair is a tuple, so that a list is always one of rows.
    if not isinstance(value, tuple) and hasattr(value, "__getitem__"):
        rows = [value[index] for index in range(len(value))]
        value = _stack_rows(rows, part, source)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise DataError(
            f"{source}: split {part!r} must be a pair (inputs, targets), a dataset of pairs or a "
            f"function that returns one, got {type(value).__name__}"
        )
    inputs, targets = value
    names = tuple(inputs) if isinstance(inputs, Mapping) else ()
    tensors = tuple(inputs.values()) if isinstance(inputs, Mapping) else _many(inputs)
    stored = tuple(_tensor(t, part, source) for t in tensors)
    wanted = tuple(_tensor(t, part, source) for t in _many(targets))
    try:
        return Split(
            inputs=stored,
            targets=wanted if isinstance(targets, tuple | list) else wanted[0],
            prepare=as_they_are if prepare is None else PrepareAsUser(prepare, names),
            names=names,
        )
    except DataError as error:
        raise DataError(f"{source}: split {part!r}: {error}") from None


class PrepareAsUser:
    """The user's `prepare`, called with one tensor, a tuple or a dict, as they were stored."""

    def __init__(self, function: Prepare, names: tuple[str, ...]) -> None:
        self.function: Any = function
        self.names = names

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.names:
            given = self.function(dict(zip(self.names, inputs, strict=True)))
            return tuple(given[name] for name in self.names)
        return tuple(_many(self.function(inputs[0] if len(inputs) == 1 else inputs)))


def _many(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _tensor(value: Any, part: str, source: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    raise DataError(
        f"{source}: split {part!r} must hold tensors or arrays, got {type(value).__name__}; "
        "stack the rows first"
    )


def _stack_rows(rows: list[Any], part: str, source: str) -> tuple[Any, Any]:
    try:
        return torch.utils.data.default_collate(rows)
    except (TypeError, RuntimeError) as error:
        raise DataError(
            f"{source}: the rows of split {part!r} must be pairs of one shape, got: {error}; "
            "pad or resize them in the dataset"
        ) from error
