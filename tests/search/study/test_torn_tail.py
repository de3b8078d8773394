"""The end of a file of JSON lines after a kill, at every byte."""

import json
from pathlib import Path

import pytest

from paredown.search.study.torn_tail import cut_torn_tail

LINES = [json.dumps({"number": n, "text": "a\\nb"}).encode() + b"\n" for n in range(3)]


@pytest.mark.parametrize("cut", range(len(b"".join(LINES)) + 1))
def test_whole_lines_stay_and_the_rest_goes(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"".join(LINES)[:cut])
    whole = b"".join(LINES[: cut // len(LINES[0])])
    assert cut_torn_tail(path) == cut - len(whole)
    assert path.read_bytes() == whole
    assert cut_torn_tail(path) == 0


def test_a_last_line_that_is_no_json_goes_with_its_end(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(LINES[0] + b'{"half": \n')
    assert cut_torn_tail(path) == len(b'{"half": \n')
    assert path.read_bytes() == LINES[0]


def test_a_file_that_is_not_there_has_no_tail(tmp_path: Path) -> None:
    assert cut_torn_tail(tmp_path / "none") == 0
    assert list(tmp_path.iterdir()) == []
