"""What the shipped devices offer the space agrees with what their files say."""

from __future__ import annotations

import pytest

from paredown.hardware_models.devices.device import list_devices, load_device
from paredown.hardware_models.devices.gains import WEIGHT_BITS
from paredown.hardware_models.devices.offered import capabilities


@pytest.mark.parametrize("name", list_devices())
def test_capabilities_partition_the_weight_bits(name):
    device = load_device(name)
    offered = capabilities(device)
    left = set(WEIGHT_BITS) - set(offered.weight_bits)
    assert not set(offered.fast_weight_bits) & set(offered.storage_weight_bits)
    assert all(device.gains.of_bits(bits).effect == "unsupported" for bits in left)


@pytest.mark.parametrize("name", list_devices())
def test_what_is_fast_has_a_kernel(name):
    device = load_device(name)
    read = {bits for kernel in device.kernels for bits in kernel.weight_bits}
    assert set(capabilities(device).fast_weight_bits) <= read


def test_microcontrollers_have_budgets_of_flash_and_memory():
    offered = capabilities(load_device("stm32h743-tinyengine"))
    assert offered.weight_budget_bytes == 2 * 2**20
    assert offered.activation_budget_bytes == 512 * 2**10


def test_onnx_runtime_gains_time_from_no_sparsity_pattern():
    offered = capabilities(load_device("x86-avx512-vnni-ort"))
    assert offered.fast_patterns == ("dense",)
    assert "sparsity" in offered.storage_only_knobs
    assert offered.width_step == 16


def test_sparse_tensor_cores_make_2_4_a_knob_of_time():
    for name in ("a100-80g-trt", "h100-sxm-trt", "jetson-orin-nano-trt"):
        assert capabilities(load_device(name)).fast_patterns == ("dense", "2:4")
        assert load_device(name).int8.two_of_four_speedup.value > 1
