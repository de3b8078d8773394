"""JSON and YAML from files that anybody may have written, read within bounds.

A card, a device file or a config may come from anywhere. What it says is checked by those who use it;
here it is made sure that reading it ends, and soon: by its size before it is read, then by depth, by
the number of values that aliases stand for, and by the length of its numbers.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import yaml

from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

JSON_BYTES = 2**26
"""At most so much JSON: the graph of a thousand layers takes about a megabyte."""
YAML_BYTES = 2**20
"""At most so much YAML, which takes PyYAML half a minute."""
_DEPTH = 64
_YAML_VALUES = 100_000
"""With every alias counted as often as it is used."""
_NUMBER_CHARACTERS = 40
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MISFITS = (ValueError, LookupError, AttributeError, TypeError)
"""What PyYAML raises of values that do not fit their tag, such as `!!bool perhaps` or 2001-99-99."""


class UnreadableTextError(ParedownError):
    """A text is too large, or is not the JSON or YAML that it should be."""


def read_text(path: Path, at_most_bytes: int) -> str:
    """The text of a file in UTF-8, of which no more than `at_most_bytes` are taken into memory.

    Raises:
        UnreadableTextError: It is longer, or not UTF-8.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        # Not the size that the file system gives: a device or a pipe has none.
        data = file.read(at_most_bytes + 1)
    if len(data) > at_most_bytes:
        raise UnreadableTextError(f"it must have at most {at_most_bytes:,} bytes, got more")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableTextError(f"it must be text in UTF-8, got other bytes: {error}") from None


def read_json(path: Path, at_most_bytes: int = JSON_BYTES) -> Json:
    """The value in a JSON file, see `parse_json`.

    Raises:
        UnreadableTextError: As `read_text` and `parse_json`.
        OSError: It cannot be read.
    """
    return parse_json(read_text(path, at_most_bytes))


def parse_json(text: str | bytes, *, finite: bool = True) -> Json:
    """The value of a JSON text: at most 64 levels, integers of 64 bits, no key twice.

    Args:
        finite: Whether NaN and infinite numbers, which Python writes and JSON does not know, are
            refused.

    Raises:
        UnreadableTextError: It is something else.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    refuse = _refuse_constant if finite else float
    try:
        value = json.loads(
            text, parse_int=_integer, parse_constant=refuse, object_pairs_hook=_with_single_keys
        )
    except UnreadableTextError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise UnreadableTextError(f"it must be JSON, got {error}") from None
    _check(value, finite)
    return value


def as_mapping(value: Json) -> dict[str, Json]:
    """`value`, which must be a mapping.

    Raises:
        UnreadableTextError: It is something else.
    """
    if not isinstance(value, dict):
        raise UnreadableTextError(f"it must hold a mapping, got {type(value).__name__}")
    return value


def as_list(value: Json) -> list[Json]:
    """`value`, which must be a list.

    Raises:
        UnreadableTextError: It is something else.
    """
    if not isinstance(value, list):
        raise UnreadableTextError(f"it must hold a list, got {type(value).__name__}")
    return value


def parse_yaml(text: str) -> Json:
    """The value of a YAML text, None for an empty one.

    At most 64 levels and 100,000 values, aliases counted as what they stand for, and numbers of at
    most 40 characters.

    Raises:
        UnreadableTextError: It is something else.

    >>> parse_yaml("a: [1, 2.5]")
    {'a': [1, 2.5]}
    """
    with _refusals():
        loader, node = _compose(text)
        return None if node is None else loader.construct_document(node)


def compose_yaml(text: str) -> tuple[yaml.Node | None, Json]:
    """The nodes of a YAML text, which know their lines, and its value; see `parse_yaml`.

    Raises:
        UnreadableTextError: As `parse_yaml`.
    """
    with _refusals():
        _, node = _compose(text)
    # From nodes of their own: making the value writes merge keys out.
    return node, parse_yaml(text)


def _compose(text: str) -> tuple[yaml.SafeLoader, yaml.Node | None]:
    if len(text.encode("utf-8", "surrogatepass")) > YAML_BYTES:
        raise UnreadableTextError(f"YAML must have at most {YAML_BYTES:,} bytes, got more")
    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    if node is not None:
        _measure(node, {}, 1)
    return loader, node


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Whatever PyYAML raises, as one error."""
    try:
        yield
    except UnreadableTextError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except yaml.YAMLError as error:
        raise UnreadableTextError(str(error)) from None
    except _MISFITS as error:
        raise UnreadableTextError(f"a value does not fit what it is marked as: {error}") from None


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """Values and levels below and with `node`, aliases expanded."""
    if id(node) in known:
        return known[id(node)]
    if depth > _DEPTH:
        raise _too_deep()
    # A node inside itself would have no end; what is found of it here is too deep.
    known[id(node)] = (1, _DEPTH + 1)
    values, levels = 1, 1
    for inner in _inside(node):
        found, height = _measure(inner, known, depth + 1)
        values, levels = values + found, max(levels, 1 + height)
    if levels > _DEPTH:
        raise _too_deep()
    if values > _YAML_VALUES:
        line = node.start_mark.line + 1
        raise UnreadableTextError(
            f"at most {_YAML_VALUES:,} values may be in it, got more from line {line} on, aliases "
            "counted as what they stand for; write less"
        )
    known[id(node)] = values, levels
    return values, levels


def _inside(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return (part for pair in node.value for part in pair)
    if isinstance(node, yaml.SequenceNode):
        return node.value
    if node.tag in _NUMBERS and len(node.value) > _NUMBER_CHARACTERS:
        line = node.start_mark.line + 1
        raise UnreadableTextError(
            f"a number has at most {_NUMBER_CHARACTERS} characters, got one of {len(node.value):,} "
            f"in line {line}; put it in quotes if it is text"
        )
    return ()


def _check(value: Json, finite: bool) -> None:
    """Level by level: what is deep must not be walked by calls."""
    level = [value]
    for _ in range(_DEPTH):
        inner: list[Json] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
            elif finite and isinstance(each, float) and not math.isfinite(each):
                raise UnreadableTextError(
                    "its numbers must be finite, got one beyond 64-bit floats"
                )
        if not inner:
            return
        level = inner
    raise _too_deep()


def _integer(digits: str) -> int:
    # Before it is converted: that takes the square of the number of digits.
    if len(digits) <= _NUMBER_CHARACTERS:
        value = int(digits)
        if -(2**63) <= value < 2**64:
            return value
    raise UnreadableTextError(f"its integers must fit 64 bits, got one of {len(digits):,} digits")


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableTextError(f"its numbers must be finite, got {name}")


def _with_single_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise UnreadableTextError(f"a key may be there once, got {key[:80]!r} twice")
        found[key] = value
    return found


def _too_deep() -> UnreadableTextError:
    return UnreadableTextError(f"at most {_DEPTH} levels may be nested, got more")
