"""JSON that carries a digest of itself, so that what a disk or a copy damaged is noticed.

A flipped bit in a number still reads as JSON. The digest stands in the object itself, under `digest`, so
files stay files that other programs read, and nothing is lost when one is moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from paredown.spaces.system.bounded import JSON_BYTES, UnreadableTextError, as_mapping, read_json
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.whole_file import write_text_whole

_KEY = "digest"
_MARK = "blake2b-"
SEAL = rb'"blake2b-[0-9a-f]{32}"'
"""The digest as it stands in JSON text: the last value of what `seal` gives."""


class DamagedFileError(ParedownError):
    """A file does not hold what was once written to it."""


def seal(data: Mapping[str, Json]) -> dict[str, Json]:
    """The data with their digest, in place of one that they carry."""
    plain = {key: value for key, value in data.items() if key != _KEY}
    return plain | {_KEY: _digest(plain)}


def unseal(data: Mapping[str, Json], *, needs_digest: bool = False) -> dict[str, Json]:
    """The data without their digest.

    Args:
        needs_digest: Whether data without one, which earlier versions wrote, are damaged too.

    Raises:
        DamagedFileError: They are not what was sealed.
    """
    plain = {key: value for key, value in data.items() if key != _KEY}
    if _KEY in data:
        if data[_KEY] != _digest(plain):
            raise DamagedFileError("its content does not match its digest")
    # One flipped bit can hide the key of the digest from us, but not the mark of its value too.
    elif any(isinstance(v, str) and v.startswith(_MARK) for v in data.values()):
        raise DamagedFileError("the name of its digest is damaged")
    elif needs_digest:
        raise DamagedFileError("it has no digest")
    return plain


def carries_seal(text: bytes) -> bool:
    """Whether JSON text ends with a digest, even where one of its bits is another one now."""
    end = text[-64:]
    return f'"{_KEY}":'.encode() in end or _MARK.encode() in end


def write_sealed(path: Path, data: Mapping[str, Json], indent: int | None = 1) -> None:
    """Writes the data with their digest to a JSON file, whole or not at all."""
    write_text_whole(path, json.dumps(seal(data), indent=indent, allow_nan=False) + "\n")


def read_sealed(
    path: Path, *, needs_digest: bool = False, at_most_bytes: int = JSON_BYTES
) -> dict[str, Json]:
    """What `write_sealed` wrote; without its digest.

    Args:
        needs_digest: As of `unseal`.

    Raises:
        DamagedFileError: The file holds something else.
        OSError: It cannot be read.
    """
    try:
        data = as_mapping(read_json(path, at_most_bytes))
    except UnreadableTextError as error:
        raise DamagedFileError(str(error)) from None
    return unseal(data, needs_digest=needs_digest)


def _digest(plain: Mapping[str, Json]) -> str:
    # Through JSON first: tuples become lists and keys text, as they are when read again.
    written = json.loads(json.dumps(plain))
    text = json.dumps(written, sort_keys=True, separators=(",", ":"))
    return _MARK + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
