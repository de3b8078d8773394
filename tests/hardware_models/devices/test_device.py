from __future__ import annotations

import pytest
import yaml

from paredown.hardware_models.devices.device import (
    DEVICES,
    DeviceError,
    host_device,
    list_devices,
    load_device,
)
from paredown.hardware_models.devices.offered import capabilities


def test_every_shipped_device_loads_under_its_own_name():
    kinds = ("x86-avx2", "rpi4", "rpi5", "jetson", "a100", "h100", "npu", "imx500")
    assert all(any(name.startswith(kind) for name in list_devices()) for kind in kinds)
    assert sum(name.startswith("stm32h743-") for name in list_devices()) == 4
    for name in list_devices():
        assert load_device(name).name == name


@pytest.mark.parametrize("name", list_devices())
def test_wider_memories_are_slower_and_the_last_one_is_unbounded(name):
    levels = load_device(name).memory.levels
    sizes = [level.size_bytes for level in levels]
    assert sizes[-1] is None
    assert sizes[:-1] == sorted(sizes[:-1])
    speeds = [level.bytes_per_s.value for level in levels]
    assert speeds == sorted(speeds, reverse=True)


@pytest.mark.parametrize("name", list_devices())
def test_a_preset_that_was_not_measured_says_so(name):
    device = load_device(name)
    figures = sum(text.count("confidence:") for text in (DEVICES / f"{name}.yaml").open())
    assert device.confidences.total() == figures
    assert bool(device.caveat) == (name != "x86-avx512-vnni-ort")


def test_the_host_is_known_by_its_cpu_flags():
    assert host_device("flags\t\t: fpu avx2 avx512_vnni sse").name == "x86-avx512-vnni-ort"
    assert host_device("flags\t\t: fpu avx2 sse").name == "x86-avx2-ort"


def test_an_unknown_host_is_told_the_nearest_device():
    with pytest.raises(DeviceError, match=r"nearest: x86-avx2-ort.*avx2"):
        host_device("flags\t\t: fpu sse")


def test_an_unknown_name_is_told_the_shipped_ones():
    with pytest.raises(DeviceError, match="rpi4-a72-ort"):
        load_device("nokia-3310")


def _shipped():
    return yaml.safe_load((DEVICES / "rpi4-a72-ort.yaml").read_text())


def _add_unknown_key(data):
    data["float32"]["tensor_macs_per_s"] = data["float32"]["conv_macs_per_s"]


def _drop_source(data):
    del data["float32"]["conv_macs_per_s"]["source"]


def _stop_the_clock(data):
    data["int8"]["conv_macs_per_s"]["value"] = 0


def _speed_up_by_nothing(data):
    data["gains"]["width"]["speedup"] = [0.5, 0.9]


def _promise_without_a_kernel(data):
    data["gains"]["bits_other"] |= {"effect": "faster", "speedup": [1, 2]}


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (_add_unknown_key, "float32.tensor_macs_per_s"),
        (_drop_source, "float32.conv_macs_per_s.source"),
        (_stop_the_clock, "int8.conv_macs_per_s.value"),
        (_speed_up_by_nothing, "gains.width"),
        (_promise_without_a_kernel, "3-bit weights are said to be faster"),
    ],
)
def test_a_broken_device_file_names_the_place(spoil, place, tmp_path):
    data = _shipped()
    spoil(data)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(DeviceError, match=place):
        load_device(path)


def test_a_kernel_of_2_bits_reads_1_bit_too(tmp_path):
    data = _shipped()
    data["gains"]["bits_2"] |= {"effect": "faster", "speedup": [1, 2]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    assert {1, 2} <= set(capabilities(load_device(path)).fast_weight_bits)


def test_a_device_file_of_ones_own_loads(tmp_path):
    data = {**_shipped(), "name": "mine"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    assert load_device(path).name == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(
            ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
        ),
        "[" * 5000,
        "schema_version: " + "9" * 6000,
        "name: \0",
        "name: !!bool perhaps",
    ],
)
def test_a_device_file_that_would_not_end_is_refused(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DeviceError, match=r"mine\.yaml is not a device file"):
        load_device(path)


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 10**400])
def test_a_rate_without_an_end_is_refused(rate, tmp_path):
    data = _shipped()
    data["float32"]["conv_macs_per_s"]["value"] = rate
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(DeviceError, match=r"conv_macs_per_s\.value|40 characters"):
        load_device(path)
