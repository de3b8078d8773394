"""Two rounds of timings become a model with its held-out error and its noise floor."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.timing.measure import Measured
from paredown.search.calibrating import fitting, latency_source
from paredown.search.calibrating.drawing import family_networks, family_space, network_of
from paredown.search.calibrating.fitting import (
    Request,
    calibrate_here,
    concluded,
    loadable,
    summary_rows,
)
from paredown.search.calibrating.latency_source import latency_model

X86 = load_device("x86-avx512-vnni-ort")


@pytest.fixture(scope="module")
def networks():
    return family_networks(("mlp",), 20, X86, lambda text: None)


def invented(networks, noise: float = 0.0) -> np.ndarray:
    """Times of a machine 1.7 times as slow as the preset, two sessions each."""
    random = np.random.default_rng(0)
    whole = RooflineLatency(X86).predict_many([n.work for n in networks]).value_s
    return 1.7 * whole[:, None] * random.normal(1, noise, (len(networks), 2))


def asked(networks, **others) -> Request:
    return Request(networks=tuple(networks), device=X86, threads=1, **others)


def test_a_calibration_tells_held_out_error_and_floor(networks):
    found = concluded(asked(networks), invented(networks, 0.01), "test")
    assert found.held_out.networks == 20
    assert found.held_out.mape < 0.03
    assert 0.005 < found.floor.mape < 0.03
    assert set(summary_rows(found)) == {
        "mean error", "95 % of errors below", "rank correlation",
        "pairs apart by 10 % ordered right",
    }  # fmt: skip
    json.dumps(found.report())


def test_a_network_that_does_not_load_is_left_out_and_named(networks):
    broken = replace(networks[0], model=b"no model", origin="mlp 99")
    kept, left_out = loadable([broken, *networks[1:3]])
    assert kept == networks[1:3]
    assert "mlp 99" in left_out[0]
    assert "does not load" in left_out[0]


def test_very_few_networks_have_no_held_out_report(networks):
    found = concluded(asked(networks[:5]), invented(networks[:5]), "test")
    assert found.held_out is None
    assert "interval of the preset" in found.model.source


def test_a_measured_search_prices_a_candidate_once(tmp_path, monkeypatch):
    monkeypatch.setattr(latency_source, "host_device", lambda: X86)
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    space = family_space("mlp", 0, X86)
    model, kept = latency_model("measured", X86, 1, space, None)
    work = network_of(space, space.decode({}), 0, "", 0).work
    first = model.predict(work)
    assert first.low_s < first.value_s < first.high_s
    again, _ = latency_model("measured", X86, 1, space, kept)
    assert again.predict(work).value_s == first.value_s
    assert len(list((tmp_path / "cache" / "latency").iterdir())) == 1


def test_a_search_and_the_command_ask_for_the_same_and_time_it_twice(monkeypatch):
    space, rounds = family_space("mlp", 0, X86), []

    def timed(models, **_):
        rounds.append(list(models))
        slower = 1 + len(rounds) % 2 / 100
        times = [slower * 1e-6 * len(model) for model in models]
        return tuple(Measured(mean_s=t, min_s=t, max_s=t, instances=1) for t in times)

    monkeypatch.setattr(fitting, "measure_latencies", timed)
    monkeypatch.setattr(fitting, "preflight", lambda: None)
    for probe in ("probe_alignment", "probe_kernels"):
        monkeypatch.setattr(fitting, probe, lambda *_: ())
    judged = Request.of_space(space, 12, X86, 1)
    found = calibrate_here(judged, lambda text: None)
    plain = calibrate_here(replace(judged, is_judged=False), lambda text: None)
    assert plain.model == found.model
    assert plain.held_out is None
    assert found.held_out.networks == found.floor.networks == 12
    assert rounds[0] == rounds[1] == rounds[2] == rounds[3]
    assert rounds[0].count(judged.networks[0].model) > 1
    assert judged.networks[0].work == judged.reference


def test_every_network_gets_its_own_time_and_the_reference_the_mean_of_eight(monkeypatch):
    """The machine grows slower from one to the next: only what is spread over the run sees all of it."""
    models = [bytes([i]) for i in range(20)]
    seen = []

    def timed(given, **_):
        seen.extend(given)
        times = [1.0 + model[0] + 0.01 * place for place, model in enumerate(given)]
        return tuple(Measured(mean_s=t, min_s=t, max_s=t, instances=1) for t in times)

    monkeypatch.setattr(fitting, "measure_latencies", timed)
    found = fitting._seconds(models, 1, has_reference=True)
    for i in range(1, 20):
        (place,) = (at for at, model in enumerate(seen) if model == models[i])
        assert found[i] == 1.0 + i + 0.01 * place
    places = [at for at, model in enumerate(seen) if model == models[0]]
    assert found[0] == pytest.approx(np.mean([1.0 + 0.01 * place for place in places]))
    assert max(np.diff(places)) <= 4
    assert len(places) == 1 + 7
