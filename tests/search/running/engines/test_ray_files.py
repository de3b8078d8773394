"""Records reach the disk of the machine that started a search, and errors come back as they were."""

import pytest
import torch

from paredown.compressors.storage.shelf import Record
from paredown.compressors.training.kept import Disk, KeepingError
from paredown.search.config import SearchSection
from paredown.search.running.engines.engine_ray import ray_cluster
from paredown.search.running.engines.ray_files import drivers_disk
from paredown.spaces.system.sealed import DamagedFileError

pytestmark = pytest.mark.cluster


class OnADevice:
    """A tensor that another machine has no device for."""

    def cpu(self):
        return torch.ones(3)

    def __reduce__(self):
        raise AssertionError("only tensors on the CPU may travel")


def test_records_are_written_read_and_removed_by_an_actor_and_errors_come_back(tmp_path):
    path, record = (
        tmp_path / "abc.safetensors",
        Record(tensors={"w": OnADevice()}, facts={"a": 1}),
    )
    with ray_cluster(SearchSection()):
        disk = drivers_disk()
        with pytest.raises(FileNotFoundError):
            disk.read(path, "abc")
        disk.write(path, "abc", record)
        assert Disk().read(path, "abc").facts == disk.read(path, "abc").facts == {"a": 1}
        assert torch.equal(disk.read(path, "abc").tensors["w"], torch.ones(3))
        with pytest.raises(DamagedFileError):
            disk.read(path, "another")
        with pytest.raises(KeepingError, match=r"^what training keeps must be"):
            disk.write(path / "in the way", "abc", record)
        disk.remove(path)
        disk.remove(path)
    assert list(tmp_path.iterdir()) == []
