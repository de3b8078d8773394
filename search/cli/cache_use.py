"""What the cache keeps between searches, by kind, and its clearing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SUFFIXES = (".safetensors", ".json", ".part", ".lock", ".sha256")
_KINDS = {
    "solutions": "compressed layers",
    "statistics": "statistics of layers",
    "ranks": "ranks found for an error",
    "latency": "measured latencies",
    "paces": "how long searches took",
    "data": "prepared data, trained networks",
}
"""Kinds by the folder they lie in; `data` lies in the cache's folder itself."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Files of one kind: how many, how large together, and when one was last used (Unix time)."""

    name: str
    holds: str
    files: int
    size_bytes: int
    used_s: float | None


def cache_contents(folder: Path) -> tuple[Kind, ...]:
    """Every kind of file that the cache in `folder` may hold, with what is there now."""
    return tuple(_kind(name, list(_files(folder, name))) for name in _KINDS)


def clear_cache(folder: Path, kinds: tuple[str, ...] = tuple(_KINDS)) -> int:
    """Deletes the files of `kinds`; the bytes that were freed.

    Only files that paredown writes are touched. A search that goes on makes again what it misses.
    """
    freed = 0
    for name in kinds:
        for path in list(_files(folder, name)):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
    return freed


def kind_names() -> tuple[str, ...]:
    """The kinds that can be cleared by name."""
    return tuple(_KINDS)


def _files(folder: Path, kind: str) -> Iterator[Path]:
    place = folder if kind == "data" else folder / kind
    if place.is_dir():
        yield from (p for p in place.iterdir() if p.is_file() and p.suffix in _SUFFIXES)


def _kind(name: str, files: list[Path]) -> Kind:
    states = [path.stat() for path in files]
    return Kind(
        name=name,
        holds=_KINDS[name],
        files=len(states),
        size_bytes=sum(state.st_size for state in states),
        used_s=max((state.st_mtime for state in states), default=None),
    )
