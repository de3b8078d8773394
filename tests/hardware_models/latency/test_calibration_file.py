"""Files that are no calibration are refused with the rule they break."""

from __future__ import annotations

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import CalibrationError
from paredown.hardware_models.latency.calibration_file import model_from_json, read_calibration
from paredown.hardware_models.latency.models import RooflineLatency


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("no json", "written by `paredown calibrate`"),
        ("[]", "must hold a mapping"),
        ('{"schema_version": 1, "report": {}, "model": {"kind": "oracle"}}', "got 'oracle'"),
        (
            '{"schema_version": 1, "report": {}, "model": {"kind": "calibrated"}}',
            "lacks or renames",
        ),
        ('{"schema_version": 1, "report": {}}', "got report, schema_version"),
        ('{"schema_version": 1, "report": {}, "model": []}', "must hold a `model`"),
    ],
)
def test_files_that_are_no_calibration_are_refused(text, rule, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=rule):
        read_calibration(path)


def test_a_device_of_another_version_is_told_by_its_first_mistake():
    stored = RooflineLatency(load_device("x86-avx512-vnni-ort")).to_json()
    assert model_from_json(stored).to_json() == stored
    rates = stored["device"]["float32"]
    device = {**stored["device"], "float32": dict.fromkeys(rates, "fast")}
    with pytest.raises(CalibrationError, match=rf"{len(rates)} mistakes.*float32\.conv") as told:
        model_from_json({**stored, "device": device})
    assert "\n" not in str(told.value)
    assert "calibrate again" in str(told.value)
