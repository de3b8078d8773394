"""What no node of a cluster has is told at once: Ray would wait for it."""

import pytest
import torch

from paredown.search.config.schema import SearchSection
from paredown.search.running.engines.ray_resources import (
    ClusterError,
    check_resources,
    cpus_per_worker,
    gpus_per_worker,
)

NODES = [{"CPU": 4.0, "memory": 1e9}, {"CPU": 2.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"gpus_per_worker": 0.5}, None),
        ({"gpus_per_worker": 1, "cpus_per_worker": 2}, None),
        ({"cpus_per_worker": 4}, None),
        ({"cpus_per_worker": 0}, None),
        (
            {"gpus_per_worker": 2},
            r"search\.gpus_per_worker must be at most the 1 GPUs .*, got 2; lower it",
        ),
        (
            {"cpus_per_worker": 4.5},
            r"search\.cpus_per_worker must be at most the 4 CPUs .*, got 4\.5",
        ),
        ({"cpus_per_worker": 3, "gpus_per_worker": 0.5}, "together, got 3 CPUs and 0.5 GPUs"),
    ],
)
def test_what_no_node_has_is_told_and_not_waited_for(asked, says):
    section = SearchSection(ray_address="auto", **asked)
    if says is None:
        check_resources(section, NODES)
    else:
        with pytest.raises(ClusterError, match=says):
            check_resources(section, NODES)


def test_gpus_that_this_machine_lacks_are_told():
    with pytest.raises(ClusterError, match=r"0 GPUs of this machine, got 0.5; lower it"):
        check_resources(SearchSection(gpus_per_worker=0.5), [{"CPU": 2.0}])


def test_a_cluster_without_a_living_node_is_told():
    with pytest.raises(ClusterError, match="the 0 CPUs"):
        check_resources(SearchSection(ray_address="auto"), [])


@pytest.mark.parametrize(("asked", "whole"), [(0, 1), (0.3, 1), (1, 1), (1.2, 2), (4, 4)])
def test_a_local_cluster_reserves_whole_cpus_and_another_what_is_asked(asked, whole):
    assert cpus_per_worker(SearchSection(cpus_per_worker=asked)) == whole
    assert cpus_per_worker(SearchSection(ray_address="auto", cpus_per_worker=asked)) == asked


@pytest.fixture
def gpu(monkeypatch):
    """A torch that says it sees one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize(
    ("workers", "gpus", "share"),
    [(1, [1], 1), (2, [1], 0.5), (3, [1], 0.3333), (2, [1, 1], 1), (3, [2], 0.5), (1, [4], 1)],
)
def test_workers_share_the_gpus_equally(gpu, workers, gpus, share):
    section = SearchSection(device="cuda", workers=workers)
    nodes = [{"CPU": 8.0, "GPU": float(count)} for count in gpus]
    assert gpus_per_worker(section, nodes) == share
    at_once = sum(int(count / share) for count in gpus)
    assert at_once >= workers


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_share_that_is_named_is_taken_and_the_cpu_needs_none(gpu, device):
    assert gpus_per_worker(SearchSection(device=device, gpus_per_worker=0.25), NODES) == 0.25
    assert gpus_per_worker(SearchSection(device="cpu"), NODES) == 0


def test_auto_without_a_gpu_reserves_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpus_per_worker(SearchSection(device="auto"), NODES) == 0


def test_a_cluster_without_gpus_is_refused_for_cuda(gpu):
    with pytest.raises(ClusterError, match=r"0 GPUs of .* got 0\.5; set search\.device to cpu"):
        check_resources(SearchSection(device="cuda", ray_address="auto"), [{"CPU": 2.0}])
