"""The disk of the machine that started a search, for workers elsewhere, through Ray's object store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paredown.compressors.storage.shelf import Record
from paredown.compressors.training.kept import Disk


@dataclass(frozen=True)
class DriversDisk:
    """`Files` of a machine where an actor holds them; what it raises is raised here."""

    actor: Any
    """Of Ray, whose handles have no type of their own."""

    def write(self, path: Path, key: str, record: Record) -> None:
        """See `Files`. Tensors travel on the CPU: the machine there may have no such device."""
        tensors = {name: tensor.cpu() for name, tensor in record.tensors.items()}
        _result(self.actor.write.remote(path, key, replace(record, tensors=tensors)))

    def read(self, path: Path, key: str) -> Record:
        """See `Files`."""
        found: Record = _result(self.actor.read.remote(path, key))
        return found

    def remove(self, path: Path) -> None:
        """See `Files`."""
        _result(self.actor.remove.remote(path))


def _result(asked: Any) -> Any:
    """What came of a call; what it raised is raised as it was, without Ray's lines around it."""
    try:
        return ray.get(asked)
    except RayTaskError as error:
        raise error.cause from None


def drivers_disk() -> DriversDisk:
    """That of the cluster's node on which this is called, as long as the handle lives."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Disk).options(num_cpus=0, scheduling_strategy=here).remote()
    return DriversDisk(actor)
