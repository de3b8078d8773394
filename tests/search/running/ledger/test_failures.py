"""What failed is kept with its reason, and takes nothing from what comes after it."""

import math

import pytest

from paredown.hardware_models.timing.measure import MeasureError
from paredown.search.proposing.coordinator import Outcome
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate


@pytest.mark.parametrize(
    ("accuracy", "loss", "says"),
    [
        (None, None, "RuntimeError: lost"),
        (
            math.nan,
            1.0,
            "metrics must be finite numbers, got accuracy nan; check the data and the loss",
        ),
        (
            0.99,
            math.inf,
            "metrics must be finite numbers, got loss inf; check the data and the loss",
        ),
    ],
)
def test_a_failure_is_kept_with_its_reason_and_never_on_the_front(
    opened, accuracy, loss, says, uncompressed, job, scored, broken, on_disk
):
    ledger, tracking, _ = opened()
    ledger.start(uncompressed)
    before, volume = ledger.front, ledger.hypervolumes[-1]
    outcome = broken if accuracy is None else scored(accuracy, loss)
    failed = ledger.tell(job(2, 2), outcome)
    assert failed.failure.sentence == says
    assert dict(failed.metrics) == {}
    assert ledger.front == before
    assert ledger.hypervolumes[-1] == volume
    assert on_disk()[-1] == failed
    assert tracking.keys[-1] == (failed.key, Rung())
    # What failed takes nothing from what comes after it.
    assert ledger.tell(job(4, 4), scored(0.8)).number == 2


def test_a_candidate_that_the_runtime_refuses_is_a_failure_with_its_reason(
    opened, workbench, uncompressed, job, scored, broken
):
    ledger, _, _ = opened()
    ledger.start(uncompressed)

    def refused(candidate):
        raise MeasureError("the ONNX model does not load: 7-bit kernel")

    price, workbench.price = workbench.price, refused
    failed = ledger.tell(job(6, 6), scored(0.8))
    assert failed.failure == Failure.of_text(
        FailureKind.NO_PRICE, "the ONNX model does not load: 7-bit kernel"
    )
    assert dict(failed.metrics) == {}
    # An outcome that failed for another reason keeps that one.
    assert ledger.tell(job(6, 4), broken).failure == broken.failure
    workbench.price = price
    assert not ledger.tell(job(4, 4), scored(0.8)).is_failed


def test_a_lost_evaluation_is_not_settled_until_it_was_scored(
    opened, uncompressed, job, scored, broken
):
    ledger, _, _ = opened()
    ledger.start(uncompressed)
    died = Outcome(
        score=None,
        failure=Failure.of_text(FailureKind.WORKER_LOST, "it ended"),
        duration_s=0.0,
    )
    lost, failed = ledger.tell(job(8, 8), died), ledger.tell(job(6, 6), broken)
    assert set(ledger.settled(Rung())) == {Candidate().key, failed.key}
    assert ledger.lost(Rung()) == {lost.key: lost}
    assert ledger.lost(Rung(number=1)) == ledger.settled(Rung(number=1)) == {}
    found = ledger.tell(job(8, 8), scored(0.8))
    assert ledger.lost(Rung()) == {}
    assert ledger.settled(Rung())[lost.key] == found
