from __future__ import annotations

import pytest
import yaml

from paredown.hardware_models.device import (
    DEVICES,
    DeviceError,
    capabilities,
    host_device,
    list_devices,
    load_device,
)


def test_every_shipped_device_loads_under_its_own_name():
    assert {"x86-avx512-vnni-ort", "rpi4-a72-ort", "stm32h743-tinyengine"} <= set(list_devices())
    for name in list_devices():
        assert load_device(name).name == name


@pytest.mark.parametrize("name", list_devices())
def test_capabilities_partition_the_weight_bits(name):
    offered = capabilities(load_device(name))
    assert offered.weight_bits == (2, 3, 4, 5, 6, 8, 32)
    assert not set(offered.fast_weight_bits) & set(offered.storage_weight_bits)


def test_onnx_runtime_gains_time_from_no_sparsity_pattern():
    offered = capabilities(load_device("x86-avx512-vnni-ort"))
    assert offered.fast_patterns == ("dense",)
    assert "sparsity" in offered.storage_only_knobs
    assert offered.width_step == 16


def test_the_host_is_known_by_its_cpu_flags():
    assert host_device("flags\t\t: fpu avx2 avx512_vnni sse").name == "x86-avx512-vnni-ort"


def test_an_unknown_host_is_told_the_nearest_device():
    with pytest.raises(DeviceError, match=r"nearest: x86-avx512-vnni-ort.*avx512_vnni"):
        host_device("flags\t\t: fpu avx2")


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


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (_add_unknown_key, "float32.tensor_macs_per_s"),
        (_drop_source, "float32.conv_macs_per_s.source"),
        (_stop_the_clock, "int8.conv_macs_per_s.value"),
    ],
)
def test_a_broken_device_file_names_the_place(spoil, place, tmp_path):
    data = _shipped()
    spoil(data)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(DeviceError, match=place):
        load_device(path)


def test_a_device_file_of_ones_own_loads(tmp_path):
    data = {**_shipped(), "name": "mine"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    assert load_device(path).name == "mine"
