"""What a process killed in mid-write left at the end of a file of JSON lines."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


def cut_torn_tail(path: Path) -> int:
    """Bytes cut from the end of `path`: what a process killed in mid-write left behind.

    Optuna reads past a torn last line, but would append the next record to it and then refuse the
    file. Only the last line is ever in doubt, as each is flushed before the next is begun.
    """
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
    if last and not _is_json(last):
        whole = whole[: -len(last)]
    torn = len(data) - len(whole)
    if torn:
        _log.warning("cut a torn record of %d bytes from the end of %s", torn, path)
        with path.open("r+b") as file:
            file.truncate(len(whole))
            file.flush()
            os.fsync(file.fileno())
    return torn


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
