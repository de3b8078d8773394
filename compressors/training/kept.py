"""Tensors of trained models by their content, so that export finds the very ones that were scored.

A folder of safetensors files, each named by the digest of the tensors in it. With the digest and
the model before training, the trained model comes back bit by bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from torch import Tensor

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.shelf import Record, digest, read_record, write_record
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.activations import scales_of, with_scales
from paredown.compressors.training.trainer import TrainingError
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.sealed import DamagedFileError

CHECKPOINT_S = 30.0
"""Seconds between two savings of a training under way, where nothing else is said."""
_PARTS = ("values", "scale", "mask")
_SCALES, _TRAINER = "activation_scales", "trainer"
_STATE, _ON_THE_WAY = "-state", "-under-way"


class KeepingError(ParedownError):
    """A disk or a folder does not take what training keeps: no fault of the model that is trained."""


class Files(Protocol):
    """Reads and writes records by path, on the disk that all who train and export have in common."""

    def write(self, path: Path, key: str, record: Record) -> None:
        """Writes the record whole or not at all.

        Raises:
            KeepingError: The disk does not take it.
        """

    def read(self, path: Path, key: str) -> Record:
        """The record that `write` wrote under `key`.

        Raises:
            OSError: There is none.
            DamagedFileError: The file holds something else.
        """

    def remove(self, path: Path) -> None:
        """Removes the file, where there is one."""


@dataclass(frozen=True)
class Disk:
    """The files of this machine."""

    def write(self, path: Path, key: str, record: Record) -> None:
        """See `Files`."""
        try:
            write_record(path, key, record)
        except (OSError, SafetensorError) as error:
            raise KeepingError(
                f"what training keeps must be written to {path.parent}, got {error} for a file of "
                f"{record.nbytes:,} bytes; make room there, or make the folder writable, then a search "
                "goes on with --resume"
            ) from error

    def read(self, path: Path, key: str) -> Record:
        """See `Files`."""
        return read_record(path, key)

    def remove(self, path: Path) -> None:
        """See `Files`."""
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class TrainedModels:
    """The trained models of a run, in a folder on `files`.

    What writes to it raises `KeepingError` where that fails.
    """

    folder: Path
    files: Files = field(default_factory=Disk)

    def put(self, model: CompressedModel) -> str:
        """Keeps the model's tensors; their digest, 24 hexadecimal digits."""
        key = digest_of(model)
        scales, tensors = scales_of(model.blueprint), dict(_named(model.stored))
        self.files.write(self._path(key), key, Record(tensors=tensors, facts={_SCALES: scales}))
        return key

    def put_state(self, key: str, state: Mapping[str, Tensor], trainer: str) -> None:
        """Keeps what further training of the model of that key goes on from, by the same trainer."""
        record = Record(tensors=state, facts={_TRAINER: trainer})
        self.files.write(self._path(key, _STATE), key, record)

    def state(self, key: str, trainer: str) -> Mapping[str, Tensor] | None:
        """What further training of the model goes on from; None without one of that trainer."""
        try:
            record = self.files.read(self._path(key, _STATE), key)
        except (OSError, DamagedFileError):
            return None
        return record.tensors if record.facts.get(_TRAINER) == trainer else None

    def checkpoint(self, name: str, every_s: float = CHECKPOINT_S) -> CheckpointFile:
        """Where the training of that name saves on its way, at least so many seconds apart."""
        path = self._path(name, _ON_THE_WAY)
        return CheckpointFile(path=path, name=name, every_s=every_s, files=self.files)

    def remove_states(self, keys: Iterable[str]) -> None:
        """Removes what further training of these models would go on from; the models stay."""
        for key in keys:
            self.files.remove(self._path(key, _STATE))

    def remove_checkpoints(self) -> None:
        """Removes what trainings saved on their way, where none is under way."""
        for path in self.folder.glob(f"*{_ON_THE_WAY}.safetensors"):
            self.files.remove(path)

    def get(self, key: str, before: CompressedModel) -> CompressedModel:
        """The model that `put` returned `key` for.

        Args:
            before: The model before training, whose blueprint and storage the trained one has.

        Raises:
            TrainingError: The file is gone or damaged, or is of another model.
        """
        path = self._path(key)
        try:
            record = self.files.read(path, key)
        except (OSError, DamagedFileError) as error:
            raise TrainingError(
                f"the tensors of a trained model must be in {path}, got {error}; restore the file, or "
                "search again"
            ) from error
        tensors, scales = record.tensors, record.facts.get(_SCALES, {})
        is_same = scales.keys() == scales_of(before.blueprint).keys()
        if not is_same or tensors.keys() != dict(_named(before.stored)).keys():
            raise TrainingError(
                f"{path} must hold the tensors of the model that is exported, got those of another; "
                "export from the run that trained it"
            )
        stored = {name: _filled(name, each, tensors) for name, each in before.stored.items()}
        return replace(before, blueprint=with_scales(before.blueprint, scales), stored=stored)

    def _path(self, key: str, kind: str = "") -> Path:
        return self.folder / f"{key}{kind}.safetensors"


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """A training that is under way, in one file that is replaced whole."""

    path: Path
    name: str
    every_s: float = CHECKPOINT_S
    files: Files = field(default_factory=Disk)

    def load(self) -> Mapping[str, Tensor] | None:
        """What was saved last; None where nothing was, or is damaged: training then begins again."""
        try:
            return self.files.read(self.path, self.name).tensors
        except (OSError, DamagedFileError):
            return None

    def save(self, state: Mapping[str, Tensor]) -> None:
        """Keeps the tensors in the place of those before.

        Raises:
            KeepingError: They cannot be written.
        """
        self.files.write(self.path, self.name, Record(tensors=state, facts={}))

    def remove(self) -> None:
        """Once the training is done."""
        self.files.remove(self.path)


def digest_of(model: CompressedModel) -> str:
    """Stands for a model's tensors and the scales of its 8-bit activations: 24 hexadecimal digits."""
    tensors, scales = dict(_named(model.stored)), scales_of(model.blueprint)
    named = (part for name in sorted(tensors) for part in (name, tensors[name]))
    return digest(json.dumps(scales, sort_keys=True), *named)


def _named(stored: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in stored.items():
        for part in _PARTS:
            found: Tensor | None = getattr(tensor, part)
            if found is not None:
                # Tensors that share memory are written apart.
                yield f"{name}/{part}", found.detach().clone()


def _filled(name: str, before: StoredTensor, tensors: Mapping[str, Tensor]) -> StoredTensor:
    return replace(
        before,
        values=tensors[f"{name}/values"],
        scale=tensors.get(f"{name}/scale"),
        mask=tensors.get(f"{name}/mask"),
    )
