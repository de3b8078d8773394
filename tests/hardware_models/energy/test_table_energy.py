from __future__ import annotations

import doctest
from dataclasses import replace

import pytest

from paredown.hardware_models.devices.device import list_devices, load_device
from paredown.hardware_models.energy import table_energy as energy
from paredown.hardware_models.energy.table_energy import energy_parts, energy_ratio, mac_energy_pj
from paredown.hardware_models.work.workload import Work, read_work


@pytest.mark.parametrize(
    ("bits", "multiply_pj"), [(2, 0.014), (4, 0.052), (8, 0.20), (16, 0.78), (31, 2.9)]
)
def test_multiplications_match_the_published_table(bits, multiply_pj):
    assert mac_energy_pj(bits, bits) - 0.1 == pytest.approx(multiply_pj, rel=0.05)


def test_floats_match_the_published_table():
    assert mac_energy_pj(32, 32) == pytest.approx(3.7 + 0.9)


def test_mixed_widths_lie_between_the_pure_ones():
    assert mac_energy_pj(4, 4) < mac_energy_pj(4, 8) < mac_energy_pj(8, 8)


def test_a_model_has_the_energy_of_itself(captured, blueprint_of):
    work = read_work(blueprint_of(captured))
    assert energy_ratio(work, work) == 1.0


def test_eight_bits_save_energy_and_fewer_weight_bytes_save_more(
    captured, blueprint_of, with_codes
):
    reference = read_work(blueprint_of(captured))
    eight = read_work(with_codes(blueprint_of(captured, bits=8, onnx_type="int8")))
    packed = [replace(op, weight_bytes=op.weight_bytes // 2) for op in eight.operators]
    assert energy_ratio(Work(operators=tuple(packed)), reference) < energy_ratio(eight, reference)
    assert energy_ratio(eight, reference) < 0.5


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(energy).attempted > 0
    assert doctest.testmod(energy).failed == 0


def test_a_devices_table_counts_kernels_and_not_stored_widths(captured, blueprint_of, with_codes):
    four = with_codes(blueprint_of(captured, bits=4, onnx_type="int8"))
    eight = with_codes(blueprint_of(captured, bits=8, onnx_type="int8"))
    cpu, npu = (load_device(n).energy for n in ("x86-avx512-vnni-ort", "npu-hexagon-like"))
    narrow, wide = read_work(four), read_work(eight)
    # A CPU widens the weights first; only the bytes of the weights are fewer.
    assert energy_parts(narrow, cpu).arithmetic_pj == energy_parts(wide, cpu).arithmetic_pj
    assert energy_parts(narrow, cpu).off_chip_pj < energy_parts(wide, cpu).off_chip_pj
    assert energy_parts(narrow, npu).arithmetic_pj < energy_parts(wide, npu).arithmetic_pj


def test_weights_without_an_integer_kernel_cost_float_energy(captured, blueprint_of):
    narrow = read_work(blueprint_of(captured, bits=4, onnx_type="int4"))
    dense = read_work(blueprint_of(captured))
    table = load_device("x86-avx512-vnni-ort").energy
    assert energy_parts(narrow, table).arithmetic_pj == energy_parts(dense, table).arithmetic_pj


@pytest.mark.parametrize("name", list_devices())
def test_the_ratio_of_a_model_to_itself_is_one_on_every_device(name, captured, blueprint_of):
    work = read_work(blueprint_of(captured))
    assert energy_ratio(work, work, load_device(name).energy) == 1
