"""Nothing of what runs here is reported to anyone: the switches of the libraries that would.

A library reads its switch when it is first imported, ONNX Runtime even before its own Python code runs
(`disable_telemetry_events` comes too late: its database is open by then). So every package of ours that
imports one of them calls `switch_off` first.
"""

from __future__ import annotations

import os

SWITCHES = {
    # Privacy.md of ONNX Runtime 1.31: no uploader, no events, no identifier of the device.
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # https://donottrack.sh, for whatever else is installed.
    "DO_NOT_TRACK": "1",
}
"""Variables of the environment, inherited by every process that is started from here."""


def switch_off() -> None:
    """Sets every switch that the user has not set."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
