from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.search.calibrating import latency_source
from paredown.search.calibrating.fitting import (
    concluded,
    family_networks,
    family_space,
    loadable,
    network_of,
    summary_rows,
)
from paredown.search.calibrating.latency_source import latency_model
from paredown.search.cli.commands import app
from paredown.search.config.reading import load_config

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


def test_networks_of_a_family_are_many_and_reproducible(networks):
    assert len(networks) == 20
    assert len({n.model for n in networks}) == 20
    assert sorted({n.group for n in networks}) == [0, 1, 2, 3, 4]
    again = family_networks(("mlp",), 4, X86, lambda text: None)
    assert [n.model for n in again] == [n.model for n in networks[:4]]


def test_a_calibration_tells_held_out_error_and_floor(networks):
    found = concluded(networks, invented(networks, 0.01), X86, 1, "test")
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
    found = concluded(networks[:5], invented(networks[:5]), X86, 1, "test")
    assert found.held_out is None
    assert "interval of the preset" in found.model.source


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
