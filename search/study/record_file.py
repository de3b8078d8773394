"""The file of an Optuna journal, in which every record carries its digest.

A file of JSON lines as Optuna writes it: its own tools read it, and pass over the digest. Records
without one, of earlier versions or of other programs, are read as they are. A process killed while
writing leaves at most one torn line, which the next opening for writing cuts off.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from optuna.storages.journal import BaseJournalBackend

from paredown.spaces.system.bounded import UnreadableTextError, as_mapping, parse_json
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import SEAL, DamagedFileError, carries_seal, seal, unseal

_log = logging.getLogger(__name__)

_RECORD_BYTES = 2**26
"""At most one record's: an evaluation takes some kilobytes."""

_SEALED = re.compile(SEAL + rb"\}.\Z", re.DOTALL)
"""A record that was written to its end, but that its last character is no end of a line any more."""


class RecordFile(BaseJournalBackend):
    """Optuna's storage for one process that writes, and any number that read.

    Args:
        check: Raises of a record that is not what it should be; what it raises names no line.
    """

    def __init__(self, path: Path, check: Callable[[dict[str, Json]], None]) -> None:
        self.line = 0
        """The line, from 1, of the record that was read last."""
        self._path = path
        self._check = check
        # Bytes before each record that was read.
        self._starts = [0]
        if not path.exists():
            path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Json]]:
        """The records from this number on; one that is still being written, or torn, is not there.

        Raises:
            DamagedFileError: A record is not what was written.
        """
        with self._path.open("rb") as file:
            file.seek(self._starts[log_number_from])
            self.line = log_number_from
            line = file.readline(_RECORD_BYTES)
            while line:
                self.line += 1
                following = file.readline(_RECORD_BYTES)
                if not following and is_torn(line):
                    return
                record = _read(line)
                self._check(record)
                if len(self._starts) == self.line:
                    self._starts.append(self._starts[-1] + len(line))
                yield record
                line = following

    def append_logs(self, logs: list[dict[str, Json]]) -> None:
        """Writes the records behind the others; they are on disk when this returns."""
        lines = [json.dumps(seal(log), separators=(",", ":")) + "\n" for log in logs]
        with self._path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())


def _read(line: bytes) -> dict[str, Json]:
    if not line.endswith(b"\n"):
        raise DamagedFileError("its end is missing")
    try:
        return unseal(as_mapping(parse_json(line, finite=False)))
    except UnreadableTextError as error:
        raise DamagedFileError(str(error)) from None


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
