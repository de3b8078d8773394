"""Data sets and models as the Hugging Face libraries read them: from the hub, or from files here."""

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
_READERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
KEPT_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""What a model's folder holds beside its weights: its config and what prepares its inputs."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""A model's weights, or what says in which files they lie."""
_SHARDS = "model-*.safetensors"


def hub_rows(
    source: str | Path,
    part: str,
    subset: str | None = None,
    revision: str | None = None,
    named: str = "task.dataset",
) -> Dataset:
    """The split `part` of a data set, as `datasets.Dataset`; downloaded once, then read from disk.

    Args:
        source: An id such as "uoft-cs/cifar10", or the folder of a copy of such a repository.
        subset: The configuration of a data set that has several.
        named: What in the config names the data set.

    Raises:
        DataError: No such data set or split, or the hub cannot be reached and no copy is here.
    """
    from datasets import config, load_dataset  # seconds to import
    from datasets.exceptions import DatasetsError

    trouble = None if isinstance(source, Path) else _unreachable(config.HF_ENDPOINT)
    try:
        with _cache_alone() if trouble else contextlib.nullcontext():
            return load_dataset(str(source), subset, split=part, revision=revision)
    except (OSError, ValueError, DatasetsError) as error:
        reason = f"{trouble}; no copy is in {config.HF_DATASETS_CACHE}" if trouble else str(error)
    raise DataError(
        f"{named}: must give a split {part!r} of a data set on the Hugging Face hub, or of a "
        f"folder with its files, got {str(source)!r}: {' '.join(reason.split())}; check the name, "
        "or set it to a local copy: a folder (./rows), or a file for each split, {train: FILE, "
        "test: FILE}"
    )


def file_rows(path: Path, named: str) -> Dataset:
    """The rows of a csv, json or parquet file.

    Raises:
        DataError: It is none, or cannot be read as one.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{named}: must be a file that ends in {', '.join(_READERS)}, got {path.name}; write the "
            "rows as one of these"
        )
    try:
        return load_dataset(reader, data_files=str(path), split="train")
    except (OSError, ValueError, DatasetsError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise DataError(
            f"{named}: must be a whole {reader} file, got {path}: {reason}; write it again"
        ) from error


def hub_folder(model: str, revision: str | None) -> Path:
    """The folder of a copy of a model on the hub; downloaded once, then found in the cache.

    Raises:
        DataError: No such model or revision, or the hub cannot be reached and no copy is here.
    """
    from huggingface_hub import constants, snapshot_download

    trouble = _unreachable(constants.ENDPOINT)
    try:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                allow_patterns=[*KEPT_FILES, *WEIGHTS, _SHARDS],
                local_files_only=trouble is not None,
            )
        )
    except (OSError, ValueError) as error:
        reason = f"{trouble}; no copy is in {constants.HF_HUB_CACHE}" if trouble else str(error)
        raise DataError(
            f"task.model: must be a model on the Hugging Face hub, got {model!r}: "
            f"{' '.join(reason.split())}; check name and revision, or write the folder of a copy as a "
            "path (./model)"
        ) from error


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
