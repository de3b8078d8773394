"""Every outcome reaches journal, front, tracking and listener: once, in order, whatever became of it."""

import random

import pytest

from paredown.search.proposing.coordinator import Job
from paredown.search.study.evaluation import UNCOMPRESSED
from paredown.search.study.journal import Journal, read_journal
from paredown.search.study.run_record import RUNG
from paredown.search.study.rung import Rung

BITS = (32, 8, 6, 4, 3, 2)

LAST = Rung(number=1)


@pytest.fixture
def random_outcomes(job, scored, broken):
    """(count, seed) -> jobs of different candidates on rung 0 with outcomes, a fifth of them failed."""

    def draw_outcomes(count, seed=0):
        draw = random.Random(seed)
        pairs = draw.sample([(a, b) for a in BITS[1:] for b in BITS[1:]], count)
        for number, (a, b) in enumerate(pairs):
            outcome = broken if number % 5 == 3 else scored(draw.uniform(0.1, 0.9))
            yield job(a, b), outcome

    return draw_outcomes


def best_by_hand(evaluations, rung):
    """Keys that no other of the rung beats, every pair compared."""
    points = {
        e.key: (e.metrics["accuracy"], -e.metrics["onnx_bytes"])
        for e in evaluations
        if e.rung == rung and e.failure is None
    }
    return {
        key
        for key, mine in points.items()
        if not any(
            all(o >= m for o, m in zip(other, mine, strict=True)) and other != mine
            for other in points.values()
        )
    }


def test_every_outcome_is_on_disk_and_heard_of_once_and_in_order(
    opened, uncompressed, on_disk, random_outcomes
):
    ledger, tracking, listener = opened()
    ledger.start(uncompressed)
    told = [uncompressed]
    for each, outcome in random_outcomes(15):
        told.append(ledger.tell(each, outcome))
        assert on_disk() == told, "written when tell returns"
    assert ledger.evaluations == told
    assert [e.number for e in told] == list(range(16))
    assert tracking.keys == listener.keys == [(e.key, e.rung) for e in told]
    assert len(set(tracking.keys)) == 16
    assert listener.counts == list(range(1, 17))


def test_the_uncompressed_model_comes_first_and_only_once(
    opened, uncompressed, job, scored, on_disk
):
    ledger, _, _ = opened()
    ledger.start(uncompressed)
    ledger.tell(job(8, 8, kind="reference", label="uniform 8-bit"), scored(0.88))
    again, _, _ = opened(resume=True)
    again.start(uncompressed)
    assert [e.label for e in on_disk()] == [UNCOMPRESSED, "uniform 8-bit"]
    assert [e.kind for e in again.evaluations] == ["reference"] * 2


def test_an_evaluation_holds_its_price_its_score_and_what_the_job_says(
    opened, uncompressed, job, scored
):
    ledger, _, _ = opened()
    ledger.start(uncompressed)
    asked = job(8, 4, kind="reference", label="odd")
    found = ledger.tell(asked, scored(0.7, loss=0.9))
    assert found.metrics == {"onnx_bytes": 12.0, "accuracy": 0.7, "loss": 0.9}
    assert (found.key, found.candidate) == (asked.candidate.key, asked.candidate)
    assert (found.kind, found.label, found.rung) == ("reference", "odd", Rung())
    assert found.duration_s == 0.5
    assert not found.is_failed


def test_after_every_outcome_the_front_is_what_no_other_beats(
    opened, uncompressed, random_outcomes
):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed)
    for each, outcome in random_outcomes(20, seed=2):
        ledger.tell(each, outcome)
        assert ledger.front.keys == best_by_hand(ledger.evaluations, Rung())
        assert tracking.fronts[-1] == ledger.front
    assert ledger.hypervolumes == tracking.volumes
    assert ledger.hypervolumes == sorted(ledger.hypervolumes), "a front only grows"
    assert ledger.hypervolumes[-1] > ledger.hypervolumes[0]


def test_a_second_rung_is_kept_beside_the_first_until_it_is_put_to_use(
    opened, tmp_path, uncompressed, scored, on_disk, random_outcomes
):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed)
    for each, outcome in random_outcomes(12, seed=1):
        ledger.tell(each, outcome)
    first = ledger.front
    promoted = [e for e in ledger.evaluations if not e.is_failed][:6]
    draw = random.Random(5)
    for e in promoted:
        again = Job(candidate=e.candidate, kind=e.kind, label=e.label, rung=LAST)
        assert ledger.tell(again, scored(draw.uniform(0.1, 0.9))).rung == LAST
    assert ledger.front == first
    assert ledger.hypervolumes[-6:] == [ledger.hypervolumes[-7]] * 6
    assert RUNG not in read_journal(tmp_path / "study.journal").attributes
    heard = len(tracking.keys)

    ledger.use_rung(LAST)
    assert ledger.front.rung == LAST
    assert ledger.front.keys == best_by_hand(ledger.evaluations, LAST)
    assert read_journal(tmp_path / "study.journal").attributes[RUNG] == LAST.to_json()
    assert {key for key, _ in tracking.keys[heard:]} == ledger.front.keys, "marked anew"
    assert len(on_disk()) == len(ledger.evaluations) == 13 + 6


def test_resuming_replays_everything_and_writes_nothing(
    opened, tmp_path, uncompressed, on_disk, random_outcomes
):
    ledger, _, _ = opened()
    ledger.start(uncompressed)
    outcomes = list(random_outcomes(10, seed=3))
    for each, outcome in outcomes[:7]:
        ledger.tell(each, outcome)
    before = (tmp_path / "study.journal").read_bytes()

    again, tracking, listener = opened(resume=True)
    assert again.evaluations == ledger.evaluations, "known before the search starts"
    again.start(uncompressed)
    assert (tmp_path / "study.journal").read_bytes() == before
    assert again.evaluations == ledger.evaluations
    assert again.front.members == ledger.front.members
    assert again.hypervolumes == ledger.hypervolumes
    assert listener.counts == list(range(1, 9))
    for each, outcome in outcomes[7:]:
        again.tell(each, outcome)
    assert [e.number for e in on_disk()] == list(range(11))
    assert tracking.keys == [(e.key, e.rung) for e in on_disk()]


def test_parameters_in_the_journal_say_what_their_candidates_are(
    opened, workbench, tmp_path, uncompressed, job, scored, random_outcomes
):
    ledger, _, _ = opened()
    ledger.start(uncompressed)
    for each, outcome in random_outcomes(6):
        ledger.tell(each, outcome)
    ledger.tell(job(5, 5, kind="reference", label="outside"), scored(0.8))
    *inside, outside = read_journal(tmp_path / "study.journal").entries
    for entry in inside:
        assert set(entry.params) == set(entry.distributions)
        assert len(entry.params) == len(workbench.space.dimensions())
        bits = {n: v for n, v in entry.params.items() if n.endswith(": weight bits")}
        assert bits
        for name, value in bits.items():
            layer = name.removesuffix(": weight bits").partition(" and ")[0]
            assert entry.evaluation.candidate.layer(layer).weight_bits == value
    assert not workbench.space.contains(outside.evaluation.candidate)
    assert outside.params == {}


def test_closing_ends_tracking_with_the_status_and_frees_the_journal(
    opened, goals, tmp_path, uncompressed
):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed)
    ledger.close("KILLED")
    assert tracking.status == "KILLED"
    Journal.open(tmp_path / "study.journal", goals, resume=True).close()
