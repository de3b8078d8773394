"""Reads what the user's data factory returns into splits.

The factory returns a mapping: `train`, `search` and `test` (each a pair (inputs, targets), a sized
dataset of such pairs row by row, or a function without arguments that returns one of these), and
optionally `calibration` (rows to take statistics from; else drawn from train) and `prepare` (a
function from stored inputs to what the model takes, per batch).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Protocol, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

from paredown.search.tasks.splits import DataError, Split, Splits, as_they_are
from paredown.search.tasks.user_code import UserFunction, called

_NEEDED = ("train", "search", "test")
_OPTIONAL = ("calibration", "prepare")


class _Dataset(Protocol):
    """Rows by number, each a pair (inputs, targets)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


def read_splits(data: object, source: str, calibration_rows: int, seed: int) -> Splits:
    """The splits in what the factory `source` returned; calibration is shuffled with `seed`.

    A split that is given as a function is only opened when it is used, so `test` stays unread.

    Raises:
        DataError: A split is missing or its form is none of those above.
    """
    keys = set(data) if isinstance(data, Mapping) else set()
    is_known = bool(keys) and not keys - {*_NEEDED, *_OPTIONAL} and keys.issuperset(_NEEDED)
    if not (isinstance(data, Mapping) and is_known):
        got = sorted(map(str, keys)) if keys else type(data).__name__
        raise DataError(
            f"{source} must return a mapping with {', '.join(_NEEDED)} and, if you like, "
            f"{', '.join(_OPTIONAL)}, got {got}"
        )
    prepare = data.get("prepare")
    if prepare is not None and not callable(prepare):
        raise DataError(
            f"{source}: prepare must be a function of a batch of inputs, got "
            f"{type(prepare).__name__}; leave it out where rows are stored as the model takes them"
        )
    open_split = functools.partial(_open, prepare=prepare, source=source)
    part = "calibration" if "calibration" in data else "train"
    calibration = open_split(data[part], part=part)
    for name in ("train", "test"):
        if isinstance(data[name], tuple):  # in memory already: a mistake in it is found now
            open_split(data[name], part=name)
    return Splits(
        calibration=calibration.shuffled(
            len(calibration) if "calibration" in data else calibration_rows, seed
        ),
        search=open_split(data["search"], part="search"),
        open_train=functools.partial(open_split, data["train"], part="train"),
        open_test=functools.partial(open_split, data["test"], part="test"),
    )


def _open(value: object, *, part: str, prepare: UserFunction | None, source: str) -> Split:
    if callable(value):
        with called(f"{source}: opening split {part!r}"):
            value = value()
    # A pair is a tuple, so that a list is always one of rows.
    if not isinstance(value, tuple | Mapping) and hasattr(value, "__getitem__"):
        with called(f"{source}: reading the rows of split {part!r}"):
            dataset = cast(_Dataset, value)
            rows = [dataset[index] for index in range(len(dataset))]
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
            prepare=as_they_are if prepare is None else PrepareAsUser(prepare, names, source),
            names=names,
            named=f"{source}: split {part!r}",
        )
    except DataError as error:
        raise DataError(f"{source}: split {part!r}: {error}") from None


class PrepareAsUser:
    """The user's `prepare`, called with one tensor, a tuple or a dict, as they were stored.

    Args:
        source: The data factory that it comes from.
    """

    def __init__(self, function: UserFunction, names: tuple[str, ...], source: str) -> None:
        self.function = function
        self.names = names
        self.source = source

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The prepared inputs of a batch.

        Raises:
            UserCodeError: The function raises.
            DataError: It returns no tensors of as many rows, or not all the names.
        """
        stored = dict(zip(self.names, inputs, strict=True)) if self.names else _alone(inputs)
        rows = len(inputs[0])
        with called(f"{self.source}: prepare, given {rows} rows,"):
            given = self.function(stored)
        if self.names and isinstance(given, Mapping) and set(self.names) <= set(given):
            given = tuple(given[name] for name in self.names)
        elif self.names:
            given = None
        found = _many(given)
        if not _are_rows(found, rows):
            form = f"a dict of {', '.join(self.names)}" if self.names else "tensors"
            raise DataError(
                f"{self.source}: prepare must return {form} with as many rows as it was given "
                f"({rows}), got {_kinds(found)}"
            )
        return found


def _alone(inputs: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return inputs[0] if len(inputs) == 1 else inputs


def _are_rows(found: tuple[object, ...], rows: int) -> TypeGuard[tuple[Tensor, ...]]:
    return all(isinstance(x, Tensor) and x.dim() and len(x) == rows for x in found)


def _kinds(values: tuple[object, ...]) -> str:
    shown = (f"{tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__ for x in values)
    return ", ".join(shown)


def _many(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _tensor(value: object, part: str, source: str) -> Tensor:
    got = type(value).__name__
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(np.ascontiguousarray(value))
        except (TypeError, ValueError):  # objects, text, dates, bytes in another order
            got = f"an array of {value.dtype}"
    raise DataError(
        f"{source}: split {part!r} must hold tensors or arrays of numbers, got {got}; stack the rows "
        "first"
    )


def _stack_rows(rows: list[object], part: str, source: str) -> object:
    try:
        return torch.utils.data.default_collate(rows)
    except (TypeError, RuntimeError) as error:
        raise DataError(
            f"{source}: the rows of split {part!r} must be pairs of one shape, got: {error}; "
            "pad or resize them in the dataset"
        ) from error
