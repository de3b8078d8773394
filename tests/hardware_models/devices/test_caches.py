from __future__ import annotations

from pathlib import Path

from paredown.hardware_models.devices.caches import cache_bytes
from paredown.hardware_models.devices.device import load_device, with_caches


def entry(folder: Path, index: int, level: str, kind: str, size: str) -> None:
    path = folder / f"index{index}"
    path.mkdir()
    for name, text in (("level", level), ("type", kind), ("size", size)):
        (path / name).write_text(f"{text}\n", encoding="ascii")


def test_unified_caches_are_read_with_their_units(tmp_path):
    entry(tmp_path, 0, "1", "Data", "48K")
    entry(tmp_path, 2, "2", "Unified", "2048K")
    entry(tmp_path, 3, "3", "Unified", "105M")
    assert cache_bytes(tmp_path) == {"L2": 2 * 2**20, "L3": 105 * 2**20}


def test_what_the_system_does_not_tell_is_left_out(tmp_path):
    assert cache_bytes(tmp_path / "none") == {}
    (tmp_path / "index2").mkdir()
    entry(tmp_path, 3, "3", "Unified", "unknown")
    assert cache_bytes(tmp_path) == {}


def test_a_device_takes_the_caches_that_are_named_and_keeps_the_others():
    device = load_device("x86-avx512-vnni-ort")
    found = with_caches(device, {"L2": 123, "L9": 7}).memory.levels
    assert found[0].size_bytes == 123
    assert found[1:] == device.memory.levels[1:]
    assert found[0].bytes_per_s == device.memory.levels[0].bytes_per_s
