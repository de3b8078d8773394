"""Files that are made once and found again by what they were made from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from paredown.compressors.shelf import digest as digest
from paredown.compressors.shelf import write_whole

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """PAREDOWN_CACHE, else XDG_CACHE_HOME/paredown, else ~/.cache/paredown."""
    if "PAREDOWN_CACHE" in os.environ:
        return Path(os.environ["PAREDOWN_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "paredown"


def cached_file(name: str, make: Callable[[], Mapping[str, Tensor]]) -> Path:
    """The safetensors file `name` of the cache, made by `make` if it is not there yet, or damaged.

    The file appears whole or not at all, so any number of processes may ask for it at once.
    """
    path = cache_folder() / f"{name}.safetensors"
    if not _is_whole(path):
        write_whole(path, make(), {})
    return path


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except FileNotFoundError:
        return False
    except SafetensorError as error:
        _log.warning("%s is damaged (%s); what it held is made again", path, error)
        return False


def cached_tensors(name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of `cached_file`."""
    return load_file(cached_file(name, make))
