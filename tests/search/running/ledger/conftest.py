"""A ledger over a space of two layers, whose workbench prices by bits and whose tracking only listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paredown.search.proposing.coordinator import Job, Outcome
from paredown.search.running.ledger import Ledger
from paredown.search.study.evaluation import (
    UNCOMPRESSED,
    Evaluation,
    Failure,
    FailureKind,
    Goal,
    Score,
)
from paredown.search.study.journal import Journal, read_journal
from paredown.search.study.pareto import Front
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.structure.model_map import ModelMap

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
BITS = (32, 8, 6, 4, 3, 2)
LAYERS = ("layers.1", "layers.4")


@dataclass
class Heard:
    """Stands for tracking and for the listener: keeps what it is told, in order."""

    keys: list[tuple[str, Rung]] = field(default_factory=list)
    fronts: list[Front] = field(default_factory=list)
    volumes: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    status: str = ""

    def record(self, evaluation: Evaluation, front: Front, hypervolume: float) -> None:
        self.keys.append((evaluation.key, evaluation.rung))
        self.fronts.append(front)
        self.volumes.append(hypervolume)

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        self.record(evaluation, front, hypervolume)
        self.counts.append(done)

    def close(self, status: str) -> None:
        self.status = status


def bytes_of(candidate: Candidate) -> float:
    return float(sum(candidate.layer(name).weight_bits for name in LAYERS))


@pytest.fixture(scope="session")
def goals() -> tuple[Goal, ...]:
    return GOALS


@pytest.fixture
def workbench(mapped: Callable[[str], ModelMap]) -> Any:
    """Prices by bits, over a space of two layers."""
    knobs = tuple(
        WeightBitsKnob(name=f"{n}:weight_bits", targets=(n,), domain=BITS) for n in LAYERS
    )
    architecture = Architecture(name="", model_map=mapped("mlp"), knobs=knobs)

    def price(candidate: Candidate) -> Any:
        return {"onnx_bytes": bytes_of(candidate)}

    return SimpleNamespace(
        price=price,
        task=SimpleNamespace(metric=SimpleNamespace(name="accuracy")),
        space=Space(architectures=(architecture,)),
    )


@pytest.fixture
def opened(workbench: Any, tmp_path: Path) -> Iterator[Callable[..., tuple[Ledger, Heard, Heard]]]:
    """Opens the ledger of one study; (ledger, tracking, listener)."""
    journals: list[Journal] = []

    def open_ledger(resume: bool = False) -> tuple[Ledger, Heard, Heard]:
        for journal in journals:
            journal.close()
        journals.append(Journal.open(tmp_path / "study.journal", GOALS, resume=resume))
        tracking, listener = Heard(), Heard()
        return (
            Ledger(workbench, GOALS, journals[-1], tracking, listener, Rung()),
            tracking,
            listener,
        )

    yield open_ledger
    journals[-1].close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[], list[Evaluation]]:
    """What the study's journal holds now."""
    return lambda: [e.evaluation for e in read_journal(tmp_path / "study.journal").entries]


@pytest.fixture(scope="session")
def uncompressed() -> Evaluation:
    metrics = {"accuracy": 0.9, "loss": 0.3, "onnx_bytes": bytes_of(Candidate())}
    return Evaluation(
        number=0,
        key=Candidate().key,
        candidate=Candidate(),
        kind="reference",
        label=UNCOMPRESSED,
        metrics=metrics,
    )


@pytest.fixture(scope="session")
def job() -> Callable[..., Job]:
    """(bits of the first layer, bits of the second, more of the job's fields) -> a job."""

    def make(*bits: int, **fields: Any) -> Job:
        layers = dict(zip(LAYERS, (LayerChoice(weight_bits=b) for b in bits), strict=True))
        return Job(candidate=Candidate.of(layers=layers), **fields)

    return make


@pytest.fixture(scope="session")
def scored() -> Callable[..., Outcome]:
    """(accuracy, loss) -> the outcome of a job that came to them."""

    def make(accuracy: float, loss: float = 1.0) -> Outcome:
        score = Score(metric=accuracy, loss=loss, images=8)
        return Outcome(score=score, failure=None, duration_s=0.5)

    return make


@pytest.fixture(scope="session")
def broken() -> Outcome:
    return Outcome(
        score=None,
        failure=Failure.of_text(FailureKind.RAISED, "RuntimeError: lost"),
        duration_s=0.1,
    )
