"""A text file is there whole or as it was, whatever becomes of the writer."""

import os
import threading

import pytest

from paredown.spaces.system.whole_file import write_text_whole


def test_the_last_text_stands_with_the_usual_rights_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_text_whole(path, "first")
    write_text_whole(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert list(path.parent.iterdir()) == [path]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_writer_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text_whole(path, "first")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_text_whole(path, "second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_path_never_meet(tmp_path):
    path = tmp_path / "a.json"
    texts = [str(n) * 20_000 for n in range(4)]
    write_text_whole(path, texts[0])
    failed = []

    def write(text):
        try:
            for _ in range(25):
                write_text_whole(path, text)
        except OSError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in texts
    assert failed == []
    assert list(tmp_path.iterdir()) == [path]
