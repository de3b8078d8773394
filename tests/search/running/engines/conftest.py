"""Both engines, for tests of what each of them does."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import cloudpickle
import pytest

from paredown.search.calibrating import uniform
from paredown.search.config import SearchSection
from paredown.search.proposing.coordinator import Engine
from paredown.search.proposing.jobs import Job
from paredown.search.running.engines.engine_local import ProcessesEndedError, local_engine
from paredown.search.running.engines.engine_ray import RayEngine, ray_cluster
from paredown.search.running.engines.ray_resources import ClusterError
from paredown.search.study import FailureKind, Rung
from paredown.spaces.system.errors import ParedownError


@dataclass(frozen=True)
class Contract:
    """An engine's factory, its words for workers that are lost, and how many it may keep in reserve."""

    open: Callable[..., AbstractContextManager[Engine]]
    lost: FailureKind
    error: type[ParedownError]
    reserve: int = 0


@contextmanager
def _ray(evaluator, workers, threads=1):
    """On the cluster that is up."""
    section = SearchSection(engine="ray", workers=workers, threads_per_worker=threads)
    yield RayEngine(evaluator, section)


def _local(evaluator, workers, threads=1):
    section = SearchSection(engine="local", workers=workers, threads_per_worker=threads)
    return local_engine(evaluator, section)


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.cluster)])
def contract(request):
    """Each engine; classes of the test's file travel by value, as no worker can import it."""
    module = request.module
    if request.param == "ray":
        request.getfixturevalue("sent_by_value")(module)
        with ray_cluster(SearchSection(engine="ray", workers=2)):
            # Tune may start the actor of the next trial before the last one's is free again.
            yield Contract(_ray, FailureKind.WORKER_LOST, ClusterError, reserve=1)
    else:
        cloudpickle.register_pickle_by_value(module)
        yield Contract(_local, FailureKind.ENDED_PROCESS, ProcessesEndedError)
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def job(workbench):
    """(bits, rows) -> a job."""
    return lambda bits, rows=96: Job(
        candidate=uniform(workbench.space, "", bits), rung=Rung(rows=rows)
    )
