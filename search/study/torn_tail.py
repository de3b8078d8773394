"""What a process killed in mid-write left at the end of a file of JSON lines."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from paredown.spaces.system.bounded import UnreadableTextError, parse_json
from paredown.spaces.system.sealed import SEAL, carries_seal

_log = logging.getLogger(__name__)

_SEALED = re.compile(SEAL + rb"\}.\Z", re.DOTALL)
"""A record that was written to its end, but that its last character is no end of a line any more."""


def cut_torn_tail(path: Path) -> int:
    """Bytes cut from the end of `path`: what a process killed in mid-write left behind.

    Optuna reads past a torn last line, but would append the next record to it and then refuse the
    file. Only the last line is ever in doubt, as each is flushed before the next is begun.
    """
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if not is_torn(data[len(whole) :]):
        return 0
    last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
    if is_torn(last):
        whole = whole[: -len(last)]
    torn = len(data) - len(whole)
    if torn:
        _log.warning("cut a torn record of %d bytes from the end of %s", torn, path)
        with path.open("r+b") as file:
            file.truncate(len(whole))
            file.flush()
            os.fsync(file.fileno())
    return torn


def is_torn(last: bytes) -> bool:
    """Whether the last record, with its line's end if it has one, was never written to its end.

    A record that carries its digest was: if it cannot be read, it was damaged later.
    """
    if not last.endswith(b"\n"):
        return _SEALED.search(last) is None
    return not (carries_seal(last) or _is_json(last))


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line, finite=False)
    except UnreadableTextError:
        return False
    return True
