"""What the operating system says of a disk without room, and of a place that cannot be used."""

from __future__ import annotations

import errno

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNUSABLE = (
    *(errno.ENOENT, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
)


def is_disk_full(error: BaseException) -> bool:
    """Whether a file could not be written because the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def is_unusable(error: OSError) -> bool:
    """Whether a named file or folder may not be used, or is in the way of one that is needed."""
    return error.errno in _UNUSABLE and error.filename is not None
