"""Every outcome reaches journal, front, tracking and listener: once, in order, whatever became of it."""

import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from paredown.hardware_models.measure import MeasureError
from paredown.search.coordinator import Job, Outcome
from paredown.search.evaluation import LOST, UNCOMPRESSED, Evaluation, Goal, Score
from paredown.search.journal import Journal, read_journal
from paredown.search.ledger import Ledger
from paredown.search.run_record import RUNG
from paredown.spaces.candidate import Candidate, LayerChoice
from paredown.spaces.space import Architecture, Knob, Space

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
BITS = (32, 8, 6, 4, 3, 2)
LAYERS = ("layers.1", "layers.4")


@dataclass
class Heard:
    """Stands for tracking and for the listener: keeps what it is told, in order."""

    keys: list = field(default_factory=list)
    fronts: list = field(default_factory=list)
    volumes: list = field(default_factory=list)
    counts: list = field(default_factory=list)
    status: str = ""

    def record(self, evaluation, front, hypervolume):
        self.keys.append((evaluation.key, evaluation.rung))
        self.fronts.append(front)
        self.volumes.append(hypervolume)

    def told(self, evaluation, front, hypervolume, done):
        self.record(evaluation, front, hypervolume)
        self.counts.append(done)

    def close(self, status):
        self.status = status


def bytes_of(candidate):
    return float(sum(candidate.layer(name).weight_bits for name in LAYERS))


@pytest.fixture
def workbench(mapped):
    """Prices by bits, over a space of two layers."""
    knobs = tuple(
        Knob(name=f"{n}:weight_bits", kind="weight_bits", targets=(n,), domain=BITS)
        for n in LAYERS
    )
    architecture = Architecture(name="", model_map=mapped("mlp"), knobs=knobs)

    def price(candidate):
        return SimpleNamespace(as_metrics=lambda: {"onnx_bytes": bytes_of(candidate)})

    return SimpleNamespace(
        price=price,
        task=SimpleNamespace(metric=SimpleNamespace(name="accuracy")),
        space=Space(architectures=(architecture,)),
    )


@pytest.fixture
def opened(workbench, tmp_path):
    """Opens the ledger of one study; (ledger, tracking, listener)."""
    journals = []

    def open_ledger(resume=False):
        for journal in journals:
            journal.close()
        journals.append(Journal.open(tmp_path / "study.journal", GOALS, resume=resume))
        tracking, listener = Heard(), Heard()
        return Ledger(workbench, GOALS, journals[-1], tracking, listener), tracking, listener

    yield open_ledger
    journals[-1].close()


def uncompressed():
    metrics = {"accuracy": 0.9, "loss": 0.3, "onnx_bytes": bytes_of(Candidate())}
    return Evaluation(
        number=0,
        key=Candidate().key,
        candidate=Candidate(),
        kind="reference",
        label=UNCOMPRESSED,
        metrics=metrics,
    )


def job(first, second, **fields):
    layers = dict(zip(LAYERS, (LayerChoice(weight_bits=b) for b in (first, second)), strict=True))
    return Job(candidate=Candidate.of(layers=layers), **fields)


def scored(accuracy, loss=1.0):
    return Outcome(score=Score(metric=accuracy, loss=loss, images=8), error=None, duration_s=0.5)


BROKEN = Outcome(score=None, error="RuntimeError: lost", duration_s=0.1)


def random_outcomes(count, seed=0):
    """Jobs of different candidates on rung 0, a fifth of them failed."""
    draw = random.Random(seed)
    pairs = draw.sample([(a, b) for a in BITS[1:] for b in BITS[1:]], count)
    for number, (a, b) in enumerate(pairs):
        outcome = BROKEN if number % 5 == 3 else scored(draw.uniform(0.1, 0.9))
        yield job(a, b), outcome


def best_by_hand(evaluations, rung):
    """Keys that no other of the rung beats, every pair compared."""
    points = {
        e.key: (e.metrics["accuracy"], -e.metrics["onnx_bytes"])
        for e in evaluations
        if e.rung == rung and e.error is None
    }
    return {
        key
        for key, mine in points.items()
        if not any(
            all(o >= m for o, m in zip(other, mine, strict=True)) and other != mine
            for other in points.values()
        )
    }


def on_disk(tmp_path):
    return [entry.evaluation for entry in read_journal(tmp_path / "study.journal").entries]


def test_every_outcome_is_on_disk_and_heard_of_once_and_in_order(opened, tmp_path):
    ledger, tracking, listener = opened()
    ledger.start(uncompressed())
    told = [uncompressed()]
    for each, outcome in random_outcomes(15):
        told.append(ledger.tell(each, outcome))
        assert on_disk(tmp_path) == told, "written when tell returns"
    assert ledger.evaluations == told
    assert [e.number for e in told] == list(range(16))
    assert tracking.keys == listener.keys == [(e.key, e.rung) for e in told]
    assert len(set(tracking.keys)) == 16
    assert listener.counts == list(range(1, 17))


def test_the_uncompressed_model_comes_first_and_only_once(opened, tmp_path):
    ledger, _, _ = opened()
    ledger.start(uncompressed())
    ledger.tell(job(8, 8, kind="reference", label="uniform 8-bit"), scored(0.88))
    again, _, _ = opened(resume=True)
    again.start(uncompressed())
    assert [e.label for e in on_disk(tmp_path)] == [UNCOMPRESSED, "uniform 8-bit"]
    assert [e.kind for e in again.evaluations] == ["reference"] * 2


def test_an_evaluation_holds_its_price_its_score_and_what_the_job_says(opened):
    ledger, _, _ = opened()
    ledger.start(uncompressed())
    asked = job(8, 4, kind="reference", label="odd")
    found = ledger.tell(asked, scored(0.7, loss=0.9))
    assert found.metrics == {"onnx_bytes": 12.0, "accuracy": 0.7, "loss": 0.9}
    assert (found.key, found.candidate) == (asked.candidate.key, asked.candidate)
    assert (found.kind, found.label, found.rung) == ("reference", "odd", 0)
    assert found.duration_s == 0.5
    assert not found.is_failed


def test_after_every_outcome_the_front_is_what_no_other_beats(opened):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed())
    for each, outcome in random_outcomes(20, seed=2):
        ledger.tell(each, outcome)
        assert ledger.front.keys == best_by_hand(ledger.evaluations, 0)
        assert tracking.fronts[-1] == ledger.front
    assert ledger.hypervolumes == tracking.volumes
    assert ledger.hypervolumes == sorted(ledger.hypervolumes), "a front only grows"
    assert ledger.hypervolumes[-1] > ledger.hypervolumes[0]


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (BROKEN, "RuntimeError: lost"),
        (scored(math.nan), "NotFinite: accuracy"),
        (scored(0.99, loss=math.inf), "NotFinite: loss"),
    ],
)
def test_a_failure_is_kept_with_its_reason_and_never_on_the_front(opened, tmp_path, outcome, says):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed())
    before, volume = ledger.front, ledger.hypervolumes[-1]
    failed = ledger.tell(job(2, 2), outcome)
    assert failed.error == says
    assert dict(failed.metrics) == {}
    assert ledger.front == before
    assert ledger.hypervolumes[-1] == volume
    assert on_disk(tmp_path)[-1] == failed
    assert tracking.keys[-1] == (failed.key, 0)
    # What failed takes nothing from what comes after it.
    assert ledger.tell(job(4, 4), scored(0.8)).number == 2


def test_a_candidate_that_the_runtime_refuses_is_a_failure_with_its_reason(opened, workbench):
    ledger, _, _ = opened()
    ledger.start(uncompressed())

    def refused(candidate):
        raise MeasureError("the ONNX model does not load: 7-bit kernel")

    price, workbench.price = workbench.price, refused
    failed = ledger.tell(job(6, 6), scored(0.8))
    assert failed.error == "MeasureError: the ONNX model does not load: 7-bit kernel"
    assert dict(failed.metrics) == {}
    # An outcome that failed for another reason keeps that one.
    assert ledger.tell(job(6, 4), BROKEN).error == BROKEN.error
    workbench.price = price
    assert not ledger.tell(job(4, 4), scored(0.8)).is_failed


def test_a_lost_evaluation_is_not_settled_until_it_was_scored(opened):
    ledger, _, _ = opened()
    ledger.start(uncompressed())
    died = Outcome(score=None, error=f"{LOST}: the worker ended", duration_s=0.0)
    lost, failed = ledger.tell(job(8, 8), died), ledger.tell(job(6, 6), BROKEN)
    assert set(ledger.settled(0)) == {Candidate().key, failed.key}
    assert ledger.lost(0) == {lost.key: lost}
    assert ledger.lost(1) == ledger.settled(1) == {}
    found = ledger.tell(job(8, 8), scored(0.8))
    assert ledger.lost(0) == {}
    assert ledger.settled(0)[lost.key] == found


def test_a_second_rung_is_kept_beside_the_first_until_it_is_put_to_use(opened, tmp_path):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed())
    for each, outcome in random_outcomes(12, seed=1):
        ledger.tell(each, outcome)
    first = ledger.front
    promoted = [e for e in ledger.evaluations if not e.is_failed][:6]
    draw = random.Random(5)
    for e in promoted:
        again = Job(candidate=e.candidate, kind=e.kind, label=e.label, rung=1)
        assert ledger.tell(again, scored(draw.uniform(0.1, 0.9))).rung == 1
    assert ledger.front == first
    assert ledger.hypervolumes[-6:] == [ledger.hypervolumes[-7]] * 6
    assert RUNG not in read_journal(tmp_path / "study.journal").attributes
    heard = len(tracking.keys)

    ledger.use_rung(1)
    assert ledger.front.rung == 1
    assert ledger.front.keys == best_by_hand(ledger.evaluations, 1)
    assert read_journal(tmp_path / "study.journal").attributes[RUNG] == 1
    assert {key for key, _ in tracking.keys[heard:]} == ledger.front.keys, "marked anew"
    assert len(on_disk(tmp_path)) == len(ledger.evaluations) == 13 + 6


def test_resuming_replays_everything_and_writes_nothing(opened, tmp_path):
    ledger, _, _ = opened()
    ledger.start(uncompressed())
    outcomes = list(random_outcomes(10, seed=3))
    for each, outcome in outcomes[:7]:
        ledger.tell(each, outcome)
    before = (tmp_path / "study.journal").read_bytes()

    again, tracking, listener = opened(resume=True)
    assert again.evaluations == ledger.evaluations, "known before the search starts"
    again.start(uncompressed())
    assert (tmp_path / "study.journal").read_bytes() == before
    assert again.evaluations == ledger.evaluations
    assert again.front.members == ledger.front.members
    assert again.hypervolumes == ledger.hypervolumes
    assert listener.counts == list(range(1, 9))
    for each, outcome in outcomes[7:]:
        again.tell(each, outcome)
    assert [e.number for e in on_disk(tmp_path)] == list(range(11))
    assert tracking.keys == [(e.key, e.rung) for e in on_disk(tmp_path)]


def test_parameters_in_the_journal_decode_to_their_candidates(opened, workbench, tmp_path):
    ledger, _, _ = opened()
    ledger.start(uncompressed())
    for each, outcome in random_outcomes(6):
        ledger.tell(each, outcome)
    ledger.tell(job(5, 5, kind="reference", label="outside"), scored(0.8))
    *inside, outside = read_journal(tmp_path / "study.journal").entries
    for entry in inside:
        assert workbench.space.decode(entry.params) == entry.evaluation.candidate
        assert set(entry.distributions) == set(workbench.space.dimensions())
    assert not workbench.space.contains(outside.evaluation.candidate)
    assert outside.params == {}


def test_closing_ends_tracking_with_the_status_and_frees_the_journal(opened, tmp_path):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed())
    ledger.close("KILLED")
    assert tracking.status == "KILLED"
    Journal.open(tmp_path / "study.journal", GOALS, resume=True).close()
