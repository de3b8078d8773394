"""The file of an Optuna journal, in which every record carries its digest.

A file of JSON lines as Optuna writes it: its own tools read it, and pass over the digest. Records
without one, of earlier versions or of other programs, are read as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from optuna.storages.journal import BaseJournalBackend

from paredown.search.study.torn_tail import is_torn
from paredown.spaces.system.bounded import UnreadableTextError, as_mapping, parse_json
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError, seal, unseal

_RECORD_BYTES = 2**26
"""At most one record's: an evaluation takes some kilobytes."""


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
