"""Files that are no calibration are refused with the rule they break."""

from __future__ import annotations

import pytest

from paredown.hardware_models.calibrated import CalibrationError
from paredown.hardware_models.calibration_file import (
    read_calibration,
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("no json", "written by `paredown calibrate`"),
        ("[]", "schema_version 1"),
        ('{"schema_version": 1, "report": {}, "model": {"kind": "oracle"}}', "got 'oracle'"),
        (
            '{"schema_version": 1, "report": {}, "model": {"kind": "calibrated"}}',
            "lacks or renames",
        ),
    ],
)
def test_files_that_are_no_calibration_are_refused(text, rule, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=rule):
        read_calibration(path)
