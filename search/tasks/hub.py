"""Data sets laid out as the Hugging Face hub has them: from there, or from a folder."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from paredown.search.tasks.splits import DataError

if TYPE_CHECKING:
    from datasets import Dataset

_ANSWER_S = 5.0
"""Seconds in which the hub must take a connection."""


def hub_rows(source: str | Path, part: str) -> Dataset:
    """The split `part` of a data set, as `datasets.Dataset`; downloaded once, then read from disk.

    Args:
        source: An id such as "uoft-cs/cifar10", or the folder of a copy of such a repository.

    Raises:
        DataError: No such data set or split, or the hub cannot be reached and no copy is here.
    """
    from datasets import config, load_dataset  # seconds to import

    trouble = None if isinstance(source, Path) else _unreachable(config.HF_ENDPOINT)
    try:
        with _cache_alone() if trouble else contextlib.nullcontext():
            return load_dataset(str(source), split=part)
    except (OSError, ValueError) as error:
        reason = f"{trouble}; no copy is in {config.HF_DATASETS_CACHE}" if trouble else str(error)
    raise DataError(
        f"task.dataset: must give a split {part!r} of a data set on the Hugging Face hub, or of a "
        f"folder with its files, got {str(source)!r}: {' '.join(reason.split())}; check the name, "
        "or set it to a local copy: a folder (./cifar10) or {train: FILE, test: FILE} as parquet"
    )


def _unreachable(endpoint: str) -> str | None:
    """Why the hub takes no connection; None if it does, or if a proxy is to be asked instead."""
    if urllib.request.getproxies():
        return None
    place = urlsplit(endpoint)
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname or "", port), timeout=_ANSWER_S).close()
    except OSError as error:
        return f"{endpoint} cannot be reached ({error.strerror or error})"
    return None


@contextlib.contextmanager
def _cache_alone() -> Iterator[None]:
    """`datasets` asks nobody and looks into its cache; else it would try again for half a minute."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before
