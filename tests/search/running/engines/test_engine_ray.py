"""What is Ray's alone: a cluster of our own stays on this machine, and a lost worker is in its words."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from paredown.search.config import SearchSection
from paredown.search.proposing.coordinator import Job
from paredown.search.running.engines.engine_ray import RayEngine, ray_cluster
from paredown.search.study import Score
from paredown.spaces.candidates import Candidate

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Placed:
    """An evaluator that leaves the address of its Ray node, and dies on the candidate named so."""

    folder: str

    def prepare_process(self, threads):
        """Nothing to set."""

    def solve(self, candidate, wait):
        """Nothing to solve."""

    def evaluate(self, candidate, rung, begins=""):
        import ray

        (Path(self.folder) / ray.util.get_node_ip_address()).touch()
        if candidate.widths:
            os._exit(1)
        return Score(metric=0.5, loss=1.0, images=1)


def test_a_cluster_of_our_own_stays_on_this_machine_and_a_death_is_in_rays_words(
    coordinate, tmp_path, sent_by_value
):
    sent_by_value(sys.modules[__name__])
    section = SearchSection(engine="ray", workers=1)
    coordinator, recorded = coordinate(
        [Job(candidate=Candidate()), Job(candidate=Candidate.of(widths={"group": 1}))]
    )
    with ray_cluster(section):
        RayEngine(Placed(str(tmp_path)), section).run(coordinator)
    placed, died = (outcome for _, outcome in recorded)
    assert placed.failure is None
    assert "actor" in died.failure.where.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["127.0.0.1"]
