"""What no node of a cluster has is told at once: Ray would wait for it."""

import pytest

from paredown.search.config.schema import SearchSection
from paredown.search.running.ray_resources import ClusterError, check_resources, cpus_per_worker

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
            r"search\.gpus_per_worker must be at most the 1 GPUs .*, got 2; set",
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
    with pytest.raises(ClusterError, match=r"0 GPUs of this machine.*scoring runs on the CPU"):
        check_resources(SearchSection(gpus_per_worker=0.5), [{"CPU": 2.0}])


def test_a_cluster_without_a_living_node_is_told():
    with pytest.raises(ClusterError, match="the 0 CPUs"):
        check_resources(SearchSection(ray_address="auto"), [])


@pytest.mark.parametrize(("asked", "whole"), [(0, 1), (0.3, 1), (1, 1), (1.2, 2), (4, 4)])
def test_a_local_cluster_reserves_whole_cpus_and_another_what_is_asked(asked, whole):
    assert cpus_per_worker(SearchSection(cpus_per_worker=asked)) == whole
    assert cpus_per_worker(SearchSection(ray_address="auto", cpus_per_worker=asked)) == asked
