"""A full disk and a place that cannot be used are told from every other trouble with files."""

import errno
from pathlib import Path

import pytest

from paredown.search.study.disk import is_disk_full, is_unusable


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_a_full_disk(number: int) -> None:
    assert is_disk_full(OSError(number, "no room"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "broken"), OSError("no number"), ValueError(errno.ENOSPC)]
)
def test_nothing_else_is(error: Exception) -> None:
    assert not is_disk_full(error)


def test_a_file_where_a_folder_must_be_is_an_unusable_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file") as raised:
            folder.mkdir(parents=True)
        assert is_unusable(raised.value)
    assert not is_unusable(OSError(errno.EIO, "broken", "file"))
    assert not is_unusable(OSError(errno.EACCES, "no file has to do with it"))
