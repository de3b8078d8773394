"""The type of what JSON and YAML hold, for everything that is read from or written to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A JSON value. What is read is a `dict` or a `list`; what is written may be any mapping or sequence."""
