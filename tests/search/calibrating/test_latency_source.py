"""Where latencies come from: kept for a run, held against its config, and no network ends it."""

import json

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import CalibratedLatency, fit
from paredown.hardware_models.latency.intervals import ErrorBounds
from paredown.hardware_models.latency.learned import FEWEST_NETWORKS, LearnedLatency, fit_learned
from paredown.hardware_models.latency.models import LatencyError
from paredown.hardware_models.timing.measure import Measured
from paredown.hardware_models.work.features import PARTS
from paredown.search.calibrating import drawing, fitting, latency_source
from paredown.search.calibrating.latency_source import kept_latency_model, latency_model

X86 = load_device("x86-avx512-vnni-ort")
PI = load_device("rpi4-a72-ort")


@pytest.fixture
def space(workbench):
    return workbench.space


@pytest.fixture
def here(monkeypatch):
    """This machine is the x86 preset, and networks take one microsecond for each byte."""

    def timed(models, **_):
        times = [1e-6 * len(model) for model in models]
        return tuple(Measured(mean_s=t, min_s=t, max_s=t, instances=1) for t in times)

    monkeypatch.setattr(latency_source, "host_device", lambda: X86)
    monkeypatch.setattr(fitting, "measure_latencies", timed)
    monkeypatch.setattr(latency_source, "_NETWORKS", 8)


def calibration(device=X86, threads=1, scale=1.0):
    return CalibratedLatency(
        device=device,
        threads=threads,
        factors=(scale,) * len(PARTS),
        bounds=ErrorBounds(seconds=(0.1, 0.1, 0.1)),
        held_out_mape=0.05,
        networks=60,
        fingerprint="test",
    )


def learned(works, measured_s, device, **others):
    """What `fit_best` ends in where the correction errs less."""
    return fit_learned(works, measured_s, fit(works, measured_s, device, **others))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("networks", "fitted", "kind"),
    [(8, fit, CalibratedLatency), (FEWEST_NETWORKS, learned, LearnedLatency)],
)
def test_a_fit_is_kept_for_the_run_and_comes_back_equal(
    networks, fitted, kind, space, tmp_path, monkeypatch
):
    file = tmp_path / "latency.json"
    monkeypatch.setattr(latency_source, "_NETWORKS", networks)
    monkeypatch.setattr(fitting, "fit_best", fitted)
    first = kept_latency_model("calibrated", X86, 1, space, file)
    assert isinstance(first, kind)

    def again(*_, **__):
        raise AssertionError("measured a second time")

    monkeypatch.setattr(fitting, "measure_latencies", again)
    kept = kept_latency_model("calibrated", X86, 1, space, file)
    assert kept.to_json() == first.to_json()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("text", ["", '{"kind": "calibr', "[1, 2]"])
def test_a_damaged_file_is_told_with_its_place(text, space, tmp_path):
    file = tmp_path / "latency.json"
    file.write_text(text)
    with pytest.raises(LatencyError, match=r"latency\.json must hold .* start a new run"):
        kept_latency_model("calibrated", X86, 1, space, file)
    assert file.read_text() == text


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("kind", "stored", "says"),
    [
        ("calibrated", calibration(PI).to_json(), "rpi4-a72-ort"),
        ("calibrated", calibration(threads=2).to_json(), "2 threads"),
        ("measured", calibration().to_json(), "'calibrated'"),
        ("calibrated", {"kind": "measured", "threads": 1}, "'measured'"),
        ("calibrated", {"kind": "calibrated"}, "lacks or renames"),
        ("calibrated", {**calibration().to_json(), "factors": {"run": 1.0}}, "each of"),
        ("measured", {"kind": "measured"}, "threads"),
    ],
)
def test_a_kept_model_of_something_else_is_refused(kind, stored, says, space):
    with pytest.raises(LatencyError, match="does not fit") as told:
        latency_model(kind, X86, 1, space, stored)
    assert says in str(told.value)
    assert "restore `hardware`" in str(told.value)


def test_another_calibration_under_the_same_name_is_refused(space, tmp_path):
    path = tmp_path / "board.json"
    stored = calibration().to_json()

    def written(model):
        record = {"schema_version": 1, "model": model.to_json(), "report": {}}
        path.write_text(json.dumps(record))

    written(calibration())
    assert latency_model(str(path), X86, 1, space, stored)[0] == calibration()
    written(calibration(scale=2.0))
    with pytest.raises(LatencyError, match="another calibration"):
        latency_model(str(path), X86, 1, space, stored)


@pytest.mark.usefixtures("here")
def test_networks_that_the_runtime_refuses_are_not_timed(space, monkeypatch):
    export, asked, measured = drawing._exported, [], []

    def every_third_is_broken(blueprint, seed):
        asked.append(seed)
        return b"no model" if len(asked) % 3 == 0 else export(blueprint, seed)

    monkeypatch.setattr(drawing, "_exported", every_third_is_broken)
    model, _ = latency_model("calibrated", X86, 1, space, None)
    assert len(asked) == 8
    assert model.networks == 6

    def started(export, reference, others, folder, **_):
        measured.extend(others)
        return calibration()

    asked.clear()
    monkeypatch.setattr(latency_source, "start_measuring", started)
    latency_model("measured", X86, 1, space, None)
    assert len(asked) == 24
    assert len(measured) == 16
