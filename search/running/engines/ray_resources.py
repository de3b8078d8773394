"""What a worker asks of Ray's nodes, refused where no node ever has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from paredown.search.config.schema import SearchSection
from paredown.search.evaluating.computing_device import computing_device
from paredown.spaces.system.errors import ParedownError


class ClusterError(ParedownError):
    """Ray could not carry the search out."""


_RAY_STEPS = 10_000
"""Ray counts resources in steps of 1 / 10,000."""


def cpus_per_worker(section: SearchSection) -> float:
    """CPUs to ask for: a local cluster has whole ones, as many as let `workers` work at once."""
    if section.ray_address is None:
        return max(1, math.ceil(section.cpus_per_worker))
    return section.cpus_per_worker


def gpus_per_worker(section: SearchSection, nodes: Sequence[Mapping[str, float]]) -> float:
    """GPUs to ask for: what the config says, or an equal share of what `nodes` have; 0 on the CPU."""
    if section.gpus_per_worker is not None:
        return section.gpus_per_worker
    if computing_device(section).type == "cpu":
        return 0.0
    gpus = sum(math.floor(node.get("GPU", 0.0)) for node in nodes)
    sharing = math.ceil(section.workers / max(1, gpus))
    return math.floor(_RAY_STEPS / sharing) / _RAY_STEPS


def check_client(address: str | None, *, is_trained: bool = False) -> None:
    """Refuses an address of Ray's client where that is not installed: Ray itself comes without it.

    Args:
        is_trained: Whether candidates are trained: what is kept of them goes to the node of the cluster
            that the search is started on, and the client is on none.

    Raises:
        ClusterError: As said.
    """
    is_client = (address or "").startswith("ray://")
    if is_client and is_trained:
        raise ClusterError(
            f"a search with `recovery` must be started on a node of its cluster, got search.ray_address: "
            f"{address}; start it there with ray_address: auto"
        )
    if is_client and find_spec("grpc") is None:
        raise ClusterError(
            f"search.ray_address: {address} needs Ray's client, which is not installed; run "
            "`pip install 'paredown[client]'`, or start the search on a node of the cluster with "
            "ray_address: auto"
        )


def check_resources(section: SearchSection, nodes: Sequence[Mapping[str, float]]) -> None:
    """Tune would wait for ever for what no node has.

    Args:
        nodes: All that each living node has, in use or not, under "CPU" and "GPU".
    """
    asked = {"CPU": section.cpus_per_worker, "GPU": gpus_per_worker(section, nodes)}
    if any(all(node.get(kind, 0.0) >= asked[kind] for kind in asked) for node in nodes):
        return
    is_own = section.ray_address is None
    place = "this machine" if is_own else "the cluster's largest node"
    start = "" if is_own else ", or start a node that has them before the search"
    for kind, key in (("CPU", "cpus_per_worker"), ("GPU", "gpus_per_worker")):
        most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if asked[kind] > most:
            is_own_share = kind == "GPU" and section.gpus_per_worker is None
            remedy = "set search.device to cpu" if is_own_share else "lower it"
            raise ClusterError(
                f"search.{key} must be at most the {most:g} {kind}s of {place}, got "
                f"{asked[kind]:g}; {remedy}{start}"
            )
    raise ClusterError(
        "one node must have what search.cpus_per_worker and search.gpus_per_worker ask for "
        f"together, got {asked['CPU']:g} CPUs and {asked['GPU']:g} GPUs, which no node has; lower "
        f"one of them{start}"
    )
