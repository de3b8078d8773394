"""Files found again by what they were made from: whole or absent, checked, the oldest going first.

A folder of safetensors files shared by all processes of a machine and by all runs. A process
asks by a digest of everything that a record depends on, and makes the record where none is kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import filelock
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from paredown.spaces.system.bounded import UnreadableTextError, as_mapping, parse_json
from paredown.spaces.system.sealed import DamagedFileError

_log = logging.getLogger(__name__)

_SUFFIX, _UNFINISHED, _LOCK = ".safetensors", ".part", ".lock"
_SHARE_BETWEEN_LOOKS = 16
"""A process looks at the folder's size after writing 1/16 of the limit: listing is not free."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one file holds: named tensors, and facts that JSON can write."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors; the facts are not counted."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())


def digest(*parts: str | bytes | Path | Tensor) -> str:
    """24 hexadecimal digits that stand for the parts; of a Path, for the content of its file.

    A tensor counts with its type, shape and bytes, wherever it lies.
    """
    total = hashlib.blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, Tensor):
            values = part.detach().cpu().contiguous()
            total.update(f"{values.dtype}{tuple(values.shape)}".encode())
            data: memoryview | bytes = values.reshape(-1).view(torch.uint8).numpy().data
        elif isinstance(part, Path):
            data = part.read_bytes()
        else:
            data = part.encode() if isinstance(part, str) else part
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


@functools.cache
def code_version() -> str:
    """Stands for the code that makes records: the sources of the packages it lies in, and torch."""
    packages = ("paredown.compressors", "paredown.spaces")
    sources = [s for package in packages for s in _sources(resources.files(package))]
    named = [part for item in sources for part in (item.name, item.read_bytes())]
    return digest(str(torch.__version__), *named)


def _sources(folder: Traversable) -> Iterator[Traversable]:
    """Python files of a package and of the packages in it, always in the same order."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _sources(item)
        elif item.name.endswith(".py"):
            yield item


def write_record(path: Path, key: str, record: Record) -> None:
    """The record as a safetensors file that appears whole or not at all, even while others write it.

    Its metadata hold the facts, and a checksum of all of it and of `key`.
    """
    facts = json.dumps(dict(record.facts), separators=(",", ":"))
    metadata = {"facts": facts, "checksum": _checksum(key, facts, record.tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=_UNFINISHED)
    os.close(handle)
    try:
        tensors = {k: t.cpu().contiguous() for k, t in record.tensors.items()}
        save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_record(path: Path, key: str) -> Record:
    """The record that `write_record` wrote under `key`.

    Raises:
        DamagedFileError: The file holds something else.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = as_mapping(as_mapping(parse_json(data[8 : 8 + length])).get("__metadata__", {}))
        facts, checksum = str(metadata.get("facts", "")), metadata.get("checksum")
    except (SafetensorError, UnreadableTextError) as error:
        raise DamagedFileError(str(error)) from error
    if checksum is None:
        raise DamagedFileError("it has no checksum")
    if checksum != _checksum(key, facts, tensors):
        raise DamagedFileError("its content does not match its checksum")
    return Record(tensors=tensors, facts=json.loads(facts))


class Shelf:
    """Records by key in one folder of at most `capacity_bytes`.

    Any number of processes may read and write at once. The limit may be passed by a sixteenth for
    every process that writes.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self.folder = folder
        self.capacity_bytes = capacity_bytes
        # Counted from the limit on, so that the first writing looks at what earlier runs left.
        self._unseen_bytes = capacity_bytes

    def get(self, key: str) -> Record | None:
        """The record under `key`, or None; a damaged file is logged and deleted."""
        path = self.folder / f"{key}{_SUFFIX}"
        try:
            record = read_record(path, key)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read (%s); what it holds is made again", path, error)
            return None
        except DamagedFileError as error:
            _log.warning("%s is damaged (%s); what it held is made again", path, error)
            with contextlib.suppress(OSError):  # another user's file is overwritten or stays
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # gone since, or another user's
            os.utime(path)  # what is used is not old
        return record

    def make(self, key: str, make: Callable[[], Record], *, wait: bool = True) -> Record | None:
        """The record under `key`, made now where it is missing and no other process is making it.

        Where one is, its record is awaited; None at once without `wait`. A process that ends leaves
        the making to the next.
        """
        found = self.get(key)
        if found is not None:
            return found
        with self._claim(key, wait=wait) as is_ours:
            if not is_ours:
                return None
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found)
            return found

    @contextlib.contextmanager
    def _claim(self, key: str, *, wait: bool) -> Iterator[bool]:
        path = self.folder / f"{key}{_LOCK}"
        lock = filelock.FileLock(path, blocking=wait)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            yield False
            return
        except OSError as error:
            _log.warning("%s cannot be written (%s); others may make the same", path, error)
            yield True
            return
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):  # some systems keep a file that is open
                path.unlink()
            lock.release()

    def put(self, key: str, record: Record) -> None:
        """Keeps the record; a folder that cannot be written is logged, not fatal."""
        path = self.folder / f"{key}{_SUFFIX}"
        try:
            write_record(path, key, record)
            self._unseen_bytes += path.stat().st_size
            if self._unseen_bytes * _SHARE_BETWEEN_LOOKS > self.capacity_bytes:
                self._unseen_bytes = 0
                self._make_room()
        except (OSError, SafetensorError) as error:
            _log.warning("%s cannot be written (%s); it is made again when needed", path, error)

    def _make_room(self) -> None:
        """Deletes the files that were not used for longest until the rest fits."""
        files = sorted(_files(self.folder), key=lambda file: file[0], reverse=True)
        held = 0
        for _, size, path in files:
            held += size
            if held > self.capacity_bytes:
                path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterable[tuple[float, int, Path]]:
    """Time of last use, bytes and path of every record, and of what killed processes left."""
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.endswith((_SUFFIX, _UNFINISHED, _LOCK)):
                try:
                    state = entry.stat()
                except FileNotFoundError:
                    continue  # another process made room
                yield state.st_mtime, state.st_size, Path(entry.path)


def _checksum(key: str, facts: str, tensors: Mapping[str, Tensor]) -> str:
    named = [part for name in sorted(tensors) for part in (name, tensors[name])]
    return digest(key, facts, *named)
