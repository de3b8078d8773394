"""Tensors of trained models by their content, so that export finds the very ones that were scored.

A folder of safetensors files, each named by the digest of the tensors in it. With the digest and
the model before training, the trained model comes back bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.shelf import Record, digest, read_record, write_record
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.trainer import TrainingError
from paredown.spaces.system.sealed import DamagedFileError

_PARTS = ("values", "scale", "mask")


@dataclass(frozen=True)
class TrainedModels:
    """The trained models of a run, in a folder that all who train and export can reach."""

    folder: Path

    def put(self, model: CompressedModel) -> str:
        """Keeps the model's tensors; their digest, 24 hexadecimal digits."""
        tensors = dict(_named(model.stored))
        key = digest(*(part for name in sorted(tensors) for part in (name, tensors[name])))
        path = self._path(key)
        if not path.is_file():
            write_record(path, key, Record(tensors=tensors, facts={}))
        return key

    def get(self, key: str, before: CompressedModel) -> CompressedModel:
        """The model that `put` returned `key` for.

        Args:
            before: The model before training, whose blueprint and storage the trained one has.

        Raises:
            TrainingError: The file is gone or damaged, or is of another model.
        """
        path = self._path(key)
        try:
            tensors = read_record(path, key).tensors
        except (OSError, DamagedFileError) as error:
            raise TrainingError(
                f"the tensors of a trained model must be in {path}, got {error}; restore the file, or "
                "search again"
            ) from error
        if tensors.keys() != dict(_named(before.stored)).keys():
            raise TrainingError(
                f"{path} must hold the tensors of the model that is exported, got those of another; "
                "export from the run that trained it"
            )
        stored = {name: _filled(name, each, tensors) for name, each in before.stored.items()}
        return replace(before, stored=stored)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


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
