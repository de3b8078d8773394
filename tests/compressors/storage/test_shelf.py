"""Records come back whole or not at all, whatever happened to the file, within the folder's limit."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.compressors.storage.shelf import Record, Shelf, code_version, digest


def record(seed: int = 0, size: int = 64) -> Record:
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return Record(tensors={"a": values, "b": values > 0}, facts={"seed": seed})


def same(a: Record, b: Record) -> bool:
    equal = all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    return equal and a.tensors.keys() == b.tensors.keys() and a.facts == b.facts


def test_a_record_comes_back(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "new", 2**20)
    assert shelf.get("x") is None
    shelf.put("x", record())
    found = shelf.get("x")
    assert found is not None
    assert same(found, record())


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(place: float, bit: int, tmp_path_factory) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"), 2**20)
    shelf.put("x", record())
    path = shelf.folder / "x.safetensors"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    found = shelf.get("x")
    # A space of padding in the header may change without harm.
    assert found is None or same(found, record())
    assert found is not None or not path.exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"not a file of ours"])
def test_a_torn_file_is_told_and_gone(content: bytes, tmp_path: Path, caplog) -> None:
    shelf = Shelf(tmp_path, 2**20)
    shelf.put("x", record())
    (tmp_path / "x.safetensors").write_bytes(content)
    assert shelf.get("x") is None
    assert "is damaged" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_file_under_another_name_is_not_believed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2**20)
    shelf.put("x", record())
    os.replace(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    assert shelf.get("y") is None


def test_the_files_not_used_for_longest_go_first(tmp_path: Path) -> None:
    big = Shelf(tmp_path, 2**30)
    for number in range(8):
        big.put(f"{number}", record(number))
        os.utime(tmp_path / f"{number}.safetensors", (number, number))
    (tmp_path / ".left.part").write_bytes(b"by a killed writer")
    os.utime(tmp_path / ".left.part", (0, 0))
    assert big.get("0") is not None  # used again
    size = (tmp_path / "1.safetensors").stat().st_size
    Shelf(tmp_path, 5 * size).put("new", record(9))
    left = {path.stem for path in tmp_path.iterdir()}
    assert left == {"0", "new", "5", "6", "7"}


def test_the_limit_holds_while_writing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 16_000)
    for number in range(100):
        shelf.put(f"{number}", record(number))
        held = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert held <= 16_000 * 17 / 16
    assert shelf.get("99") is not None


def test_many_writers_leave_one_good_file(tmp_path: Path) -> None:
    shelves = [Shelf(tmp_path, 2**20) for _ in range(8)]
    threads = [threading.Thread(target=s.put, args=("x", record(3, 5000))) for s in shelves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = shelves[0].get("x")
    assert found is not None
    assert same(found, record(3, 5000))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    Shelf(tmp_path / "file", 2**20).put("x", record())
    assert "cannot be written" in caplog.text


def test_files_of_another_user_are_read_and_their_damage_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    shelf = Shelf(tmp_path, 2**20)
    shelf.put("x", record())
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    found = shelf.get("x")
    assert found is not None
    assert same(found, record())
    (tmp_path / "x.safetensors").write_bytes(b"torn")
    assert shelf.get("x") is None
    assert "is damaged" in caplog.text


def test_all_code_of_the_packages_counts_however_deep_it_lies(tmp_path: Path, monkeypatch) -> None:
    own = resources.files("paredown.compressors")
    copy = shutil.copytree(str(own), tmp_path / "compressors")
    files = {"paredown.compressors": copy, "paredown.spaces": resources.files("paredown.spaces")}
    monkeypatch.setattr(resources, "files", files.__getitem__)
    seen = {code_version.__wrapped__()}
    for place in (copy, copy / "export", copy / "export" / "deeper"):
        place.mkdir(exist_ok=True)
        (place / "packing.py").write_text(f"changed = {len(seen)}")
        seen.add(code_version.__wrapped__())
        (place / "notes.txt").write_text("no code")
        seen.add(code_version.__wrapped__())
    assert len(seen) == 4


def test_a_digest_tells_type_shape_and_values_apart() -> None:
    a = torch.arange(6, dtype=torch.float32)
    others = [a.double(), a.view(2, 3), a + 1, a.view(torch.int32)]
    assert len({digest(a), *map(digest, others)}) == 5
    assert digest(a.view(2, 3).t()) == digest(a.view(2, 3).t().contiguous())


def test_what_one_process_makes_another_awaits_or_passes_over(tmp_path: Path) -> None:
    shelf, other = Shelf(tmp_path, 2**20), Shelf(tmp_path, 2**20)
    begun, go_on = threading.Event(), threading.Event()

    def _make() -> Record:
        begun.set()
        go_on.wait(30)
        return record()

    def _never() -> Record:
        raise AssertionError("made twice")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shelf.make, "key", _make)
        begun.wait(30)
        assert other.make("key", _never, wait=False) is None
        second = pool.submit(other.make, "key", _never)
        go_on.set()
        for found in (first.result(30), second.result(30), other.make("key", _never, wait=False)):
            assert found is not None
            assert same(found, record())
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_what_fails_to_be_made_is_made_by_the_next(tmp_path: Path) -> None:
    def _fail() -> Record:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Shelf(tmp_path, 2**20).make("key", _fail)
    found = Shelf(tmp_path, 2**20).make("key", record, wait=False)
    assert found is not None
    assert same(found, record())
