"""Files that are made once and found again by what they were made from."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from paredown.compressors.storage.shelf import Record, read_record, write_record
from paredown.compressors.storage.shelf import digest as digest
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.sealed import DamagedFileError

_log = logging.getLogger(__name__)


class CacheError(ParedownError):
    """The cache's folder cannot be used."""


def cache_folder() -> Path:
    """PAREDOWN_CACHE, else XDG_CACHE_HOME/paredown, else ~/.cache/paredown."""
    if "PAREDOWN_CACHE" in os.environ:
        return Path(os.environ["PAREDOWN_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "paredown"


def check_cache() -> None:
    """Tries the cache's folder before a search relies on it.

    Raises:
        CacheError: It cannot be made or written.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CacheError(
            f"the cache must be a folder that can be written, got {folder}: {error.strerror}; name "
            "another with the environment variable PAREDOWN_CACHE"
        ) from error


def cached_file(name: str, make: Callable[[], Mapping[str, Tensor]]) -> Path:
    """The safetensors file `name` of the cache, made by `make` if it is not there yet, or damaged.

    The file appears whole or not at all, so any number of processes may ask for it at once. One that a
    version without checksums wrote counts as damaged.
    """
    path = cache_folder() / f"{name}.safetensors"
    try:
        read_record(path, name)
    except FileNotFoundError:
        write_record(path, name, Record(tensors=make(), facts={}))
    except DamagedFileError as error:
        _log.warning("%s is damaged (%s); what it held is made again", path, error)
        write_record(path, name, Record(tensors=make(), facts={}))
    return path


def cached_tensors(name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of `cached_file`."""
    return dict(read_record(cached_file(name, make), name).tensors)
