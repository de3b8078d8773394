from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import CalibrationError
from paredown.hardware_models.latency.calibration_file import read_calibration
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
from paredown.search.calibrating.remote import (
    read_manifest,
    read_networks,
    read_request,
    read_timings,
    write_folder,
)
from paredown.search.cli.commands import app
from paredown.search.config.reading import load_config
from paredown.search.evaluating.workbench import prepare

X86 = load_device("x86-avx512-vnni-ort")
PLAIN = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
CONFIG = """\
name: toy
task: {name: digits}
hardware: {device: x86-avx512-vnni-ort, latency: roofline}
goals: [{metric: accuracy}, {metric: latency_s}]
"""


def paredown(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env=PLAIN)


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


def test_networks_of_a_family_are_many_and_reproducible(networks):
    assert len(networks) == 20
    assert len({n.model for n in networks}) == 20
    assert sorted({n.group for n in networks}) == [0, 1, 2, 3, 4]
    again = family_networks(("mlp",), 4, X86, lambda text: None)
    assert [n.model for n in again] == [n.model for n in networks[:4]]


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


def test_a_folder_travels_and_comes_back(networks, tmp_path):
    some = networks[:6]
    folder = tmp_path / "board"
    write_folder(folder, some, X86.name, 1)
    script = [sys.executable, "-I", str(folder / "time_models.py"), "--blocks", "3"]
    subprocess.run(script, check=True, capture_output=True)
    manifest = read_manifest(folder, X86.name)
    times, machine = read_timings(folder, manifest)
    assert times.shape == (6, 2)
    assert "onnxruntime" in machine
    found, seconds, _ = read_request(folder, X86, None)
    assert [n.model for n in found.networks] == [n.model for n in some]
    assert [n.group for n in found.networks] == [n.group for n in some]
    assert np.array_equal(seconds, times)
    assert found.reference is None
    with pytest.raises(CalibrationError, match="must be new"):
        write_folder(folder, some, X86.name, 1)
    with pytest.raises(CalibrationError, match="rpi4"):
        read_manifest(folder, "rpi4-a72-ort")
    with pytest.raises(CalibrationError, match=r"0000\.onnx was made from another config"):
        read_networks(manifest, lambda *_: some[2])


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([("0000.onnx", 0, 1e-3, "a")], "equally many"),
        ([("0000.onnx", 0, 1e-3, "a"), ("0001.onnx", 0, 1e-3, "b")], "one machine"),
        ([("0000.onnx", 0, 1e-3, "a"), ("0001.onnx", 0, 0.0, "a")], "above zero"),
        ([("0000.onnx", 0, "fast", "a")], "must have the columns"),
        ([], "equally many"),
    ],
)
def test_timings_that_cannot_be_used_are_refused(rows, rule, networks, tmp_path):
    write_folder(tmp_path / "board", networks[:2], X86.name, 1)
    with (tmp_path / "board" / "timings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "instance", "seconds", "machine"), *rows])
    manifest = read_manifest(tmp_path / "board", X86.name)
    with pytest.raises(CalibrationError, match=rule):
        read_timings(tmp_path / "board", manifest)


def test_the_commands_write_read_and_search_with_the_file(tmp_path):
    config = tmp_path / "toy.yaml"
    config.write_text(CONFIG)
    folder, target = tmp_path / "board", tmp_path / "board.json"
    written = paredown("calibrate", config, "--networks", 6, "--write", folder)
    assert written.exit_code == 0, written.output
    assert f"--read {folder}" in written.stdout.replace("\n", " ")
    script = [sys.executable, "-I", str(folder / "time_models.py"), "--blocks", "3"]
    subprocess.run(script, check=True, capture_output=True)
    read = paredown("calibrate", config, "--read", folder, "--output", target)
    assert read.exit_code == 0, read.output
    model, _ = read_calibration(target)
    assert model.networks == 6
    checked = load_config(config, [f"hardware.latency={target}"])
    kept = tmp_path / "latency.json"
    workbench = prepare(checked, kept)
    assert workbench.cost_models.latency_model == model
    # Settled for the run: a resumption no longer looks at the calibration file.
    target.unlink()
    space = workbench.space
    again, _ = latency_model(str(target), X86, 1, space, json.loads(kept.read_text()))
    assert again == model


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((), "takes a config or --families"),
        (("--families", "cnn,poems"), "must be of cnn, mobile"),
        (("--families", "mlp", "--device", "rpi4-a72-ort"), "use --write"),
        (("--families", "mlp", "--write", "a", "--read", "b"), "at most one"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments, rule):
    found = paredown("calibrate", "--networks", 5, *arguments)
    assert found.exit_code == 2
    assert rule in " ".join(found.output.split())


@pytest.mark.parametrize("value", ["fast", "missing.json"])
def test_a_latency_that_is_none_is_told_with_the_remedy(value, tmp_path):
    config = tmp_path / "toy.yaml"
    config.write_text(CONFIG)
    with pytest.raises(ValueError, match="paredown calibrate"):
        load_config(config, [f"hardware.latency={value}"])


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
        times = [(1 + len(rounds) / 100) * 1e-6 * len(model) for model in models]
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
