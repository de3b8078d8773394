"""Latency that is measured: drift falls out, nothing is timed twice, and doubt is told by repetition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from paredown.hardware_models.latency.measured import MeasuredLatency, start_measuring
from paredown.hardware_models.latency.models import LatencyError
from paredown.hardware_models.timing.measure import Measured
from paredown.hardware_models.work.workload import OperatorWork, Work

TRUE_S = {"reference": 8e-3, "half": 4e-3, "double": 16e-3, "eighth": 1e-3}
BLUEPRINT: Any = object()  # only an exporter looks at a blueprint, and this one does not


def work(name: str) -> Work:
    return Work(operators=(OperatorWork(name=name, kind="conv"),), blueprint=BLUEPRINT)


def export(asked: Work) -> bytes:
    return asked.operators[0].name.encode()


@dataclass
class Clock:
    """A machine that gets slower with every call, and in the second is `uneven` to all but one."""

    uneven: float = 0.0
    calls: int = 0

    def __call__(self, models: Sequence[bytes], threads: int) -> list[Measured]:
        self.calls += 1
        drift = 1 + 0.2 * self.calls
        found = []
        for model in models:
            name = model.decode()
            odd = 1 + self.uneven * (self.calls == 2 and name != "reference")
            seconds = TRUE_S[name] * drift * odd
            found.append(Measured(mean_s=seconds, min_s=seconds, max_s=seconds, instances=1))
        return found


@pytest.fixture
def start(tmp_path):
    """(clock, others) -> the model whose reference is settled."""

    def settled(clock: Clock, *others: str) -> MeasuredLatency:
        works = [work(name) for name in others]
        return start_measuring(export, work("reference"), works, tmp_path / "kept", timer=clock)

    return settled


def test_drift_falls_out_of_what_is_timed_beside_the_reference(start):
    model = start(Clock())
    # Settled while the machine was 1.2 and 1.4 times as slow.
    assert model.reference_s == pytest.approx(1.3 * 8e-3)
    for name in ("half", "double", "eighth"):  # each at another speed of the machine
        assert model.predict(work(name)).value_s == pytest.approx(1.3 * TRUE_S[name])
    ratio = model.predict_ratio(work("double"), work("half"))
    assert ratio.value == pytest.approx(4.0)
    assert ratio.low < 4.0 < ratio.high


def test_what_was_timed_is_remembered_also_by_another_process(start):
    clock = Clock()
    model = start(clock)
    together = model.predict_many([work("half"), work("double"), work("half")])
    assert clock.calls == 3, "all that is new is timed in one call"
    assert together.value_s[0] == together.value_s[2]
    assert model.predict(work("double")).value_s == together.value_s[1]
    assert clock.calls == 3
    fresh = Clock()
    again = MeasuredLatency.from_json(
        json.loads(json.dumps(model.to_json())),
        export=export,
        reference=work("reference"),
        timer=fresh,
    )
    assert again.predict(work("half")) == model.predict(work("half"))
    assert fresh.calls == 0


def test_a_measurement_that_cannot_be_read_is_made_again(start):
    model = start(Clock())
    first = model.predict(work("half")).value_s
    (kept,) = model.folder.iterdir()
    for text in ("", '{"rat', '{"ratio": null}', "[]"):
        kept.write_text(text)
        assert model.predict(work("half")).value_s == pytest.approx(first)
        assert json.loads(kept.read_text())["ratio"] == pytest.approx(0.5)
    assert list(model.folder.iterdir()) == [kept]


def test_a_changed_ratio_of_another_reference_is_not_taken(start, tmp_path):
    model = start(Clock())
    model.predict(work("half"))
    other = start_measuring(export, work("double"), [], model.folder, timer=Clock())
    # Half as long as the first reference, a quarter of the second.
    assert other.predict(work("half")).value_s == pytest.approx(other.reference_s / 4)


def test_how_a_measurement_repeats_is_its_error(start):
    exact = start(Clock(), "half", "double")
    assert exact.held_out_mape == pytest.approx(0.0, abs=1e-12)
    uneven = start(Clock(uneven=0.25), "half", "double")
    assert uneven.held_out_mape == pytest.approx(0.25)
    # Two others are too few for a quantile: the worst of them, and never less than a tenth.
    assert uneven.relative_error_95 == pytest.approx(0.25)
    assert exact.relative_error_95 == pytest.approx(0.1)
    assert start(Clock()).held_out_mape is None
    estimate = uneven.predict(work("half"))
    assert estimate.high_s == pytest.approx(1.25 * estimate.value_s)
    assert estimate.low_s == pytest.approx(0.75 * estimate.value_s)


def test_what_was_measured_on_another_machine_is_refused(start):
    stored = start(Clock()).to_json() | {"fingerprint": "another"}
    with pytest.raises(LatencyError, match="hold for one machine, these for another"):
        MeasuredLatency.from_json(stored, export=export, reference=work("reference"))


def test_a_work_made_by_hand_cannot_be_measured(start):
    with pytest.raises(LatencyError, match="made by hand"):
        start(Clock()).predict(Work(operators=()))
