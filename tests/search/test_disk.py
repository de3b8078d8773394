"""A full disk is told from every other trouble with files."""

import errno

import pytest

from paredown.search.disk import is_disk_full


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_a_full_disk(number: int) -> None:
    assert is_disk_full(OSError(number, "no room"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "broken"), OSError("no number"), ValueError(errno.ENOSPC)]
)
def test_nothing_else_is(error: Exception) -> None:
    assert not is_disk_full(error)
