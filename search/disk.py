"""What the operating system says of a disk without room."""

from __future__ import annotations

import errno

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: BaseException) -> bool:
    """Whether a file could not be written because the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL
