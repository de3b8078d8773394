"""The cache as `paredown cache` shows it, and its clearing, which touches nothing else."""

from __future__ import annotations

from pathlib import Path

from paredown.search.cli.cache_use import cache_contents, clear_cache, kind_names


def fill(folder: Path) -> None:
    (folder / "solutions").mkdir(parents=True)
    (folder / "solutions" / "a.safetensors").write_bytes(b"x" * 70)
    (folder / "solutions" / "b.safetensors").write_bytes(b"x" * 30)
    (folder / "digits.safetensors").write_bytes(b"x" * 11)
    (folder / "letter.txt").write_bytes(b"the user's own")
    (folder / "other").mkdir()
    (folder / "other" / "c.safetensors").write_bytes(b"x")


def test_files_are_counted_by_kind(tmp_path: Path) -> None:
    fill(tmp_path)
    found = {kind.name: (kind.files, kind.size_bytes) for kind in cache_contents(tmp_path)}
    assert found == {
        "solutions": (2, 100),
        "statistics": (0, 0),
        "ranks": (0, 0),
        "latency": (0, 0),
        "paces": (0, 0),
        "data": (1, 11),
    }


def test_clearing_a_kind_leaves_the_others(tmp_path: Path) -> None:
    fill(tmp_path)
    assert clear_cache(tmp_path, ("solutions",)) == 100
    assert [kind.files for kind in cache_contents(tmp_path) if kind.files] == [1]


def test_clearing_all_leaves_what_is_not_ours(tmp_path: Path) -> None:
    fill(tmp_path)
    assert clear_cache(tmp_path) == 111
    assert (tmp_path / "letter.txt").exists()
    assert (tmp_path / "other" / "c.safetensors").exists()


def test_a_folder_that_was_never_made_holds_nothing(tmp_path: Path) -> None:
    found = cache_contents(tmp_path / "none")
    assert [kind.files for kind in found] == [0] * len(kind_names())
    assert clear_cache(tmp_path / "none") == 0
