from __future__ import annotations

from dataclasses import replace

import pytest

from paredown.hardware_models.devices.device import list_devices, load_device
from paredown.hardware_models.latency.models import LatencyError, RooflineLatency
from paredown.hardware_models.work.features import PARTS, Preset
from paredown.hardware_models.work.workload import OperatorWork, Work, read_work

X86 = load_device("x86-avx512-vnni-ort")

# Slope of one 3x3 convolution C -> C on 16 x 16 in microseconds, measured on one thread of a Zen 5
# VM with ONNX Runtime 1.31.1.
FLOAT_US = {
    16: 9.1, 17: 17.7, 20: 25.0, 24: 25.6, 28: 25.5, 32: 25.1, 33: 45.8, 36: 50.5, 48: 50.4,
    63: 132, 64: 88.9, 65: 134, 96: 219, 97: 272, 127: 437, 128: 367,
}  # fmt: skip
INT8_US = {16: 5.0, 24: 7.2, 28: 7.9, 32: 7.4, 48: 15.9, 64: 25.4, 96: 56, 128: 103}


def convolution(channels: int, integer: bool = False, side: int = 16) -> OperatorWork:
    elements = channels * side * side
    return OperatorWork(
        name="conv",
        kind="conv",
        layer="conv",
        weight="conv.weight",
        macs=elements * channels * 9,
        weight_bits=8 if integer else 32,
        activation_bits=8 if integer else 32,
        onnx_type="int8" if integer else "float32",
        integer=integer,
        in_channels=channels,
        out_channels=channels,
        kernel_size=(3, 3),
        stride=(1, 1),
        input_elements=elements,
        output_elements=elements,
        weight_count=channels * channels * 9,
        out_spatial=side * side,
    )


def seconds(*operators: OperatorWork) -> float:
    return RooflineLatency(X86).predict(Work(operators=operators)).value_s


def added_us(operator: OperatorWork) -> float:
    chain = [operator, replace(operator, name="second", sources=("conv",))]
    return (seconds(*chain) - seconds(operator)) * 1e6


@pytest.mark.parametrize("channels", FLOAT_US)
def test_float_convolutions_cost_what_was_measured(channels):
    assert added_us(convolution(channels)) == pytest.approx(FLOAT_US[channels], rel=0.35)


@pytest.mark.parametrize("channels", INT8_US)
def test_int8_convolutions_cost_roughly_what_was_measured(channels):
    assert added_us(convolution(channels, True)) == pytest.approx(INT8_US[channels], rel=0.75)


def test_widths_inside_one_block_cost_the_same():
    assert seconds(convolution(20)) == pytest.approx(seconds(convolution(32)), rel=0.02)


def test_a_width_off_the_multiple_is_slower_than_the_full_one():
    assert seconds(convolution(63)) > 1.2 * seconds(convolution(64))
    assert seconds(convolution(63, True)) > 1.2 * seconds(convolution(64, True))


def test_wider_is_never_faster_in_steps_of_the_block():
    times = [seconds(convolution(c)) for c in range(16, 257, 16)]
    assert times == sorted(times)


def test_narrow_weights_cost_no_time_where_the_runtime_widens_them_once():
    narrow = replace(convolution(64), weight_bits=4, onnx_type="int4")
    assert seconds(narrow) == seconds(convolution(64))
    codes = replace(convolution(64), integer=True, activation_bits=8, onnx_type="int8")
    assert seconds(replace(codes, weight_bits=4, onnx_type="int4")) == seconds(codes)


def test_one_row_through_small_groups_is_slower():
    linear = OperatorWork(
        name="fc", kind="linear", weight="fc.weight", macs=2**20, weight_count=2**20,
        weight_bits=4, onnx_type="int4", in_channels=1024, out_channels=1024,
        input_elements=1024, output_elements=1024,
    )  # fmt: skip
    plain, narrow, wide = (seconds(replace(linear, group_size=size)) for size in (0, 32, 128))
    assert plain == wide < narrow
    # Many rows multiply floats, whatever the groups were.
    many = replace(linear, macs=2**26, output_elements=2**16, input_elements=2**16)
    assert seconds(replace(many, group_size=128)) == seconds(many)


@pytest.mark.parametrize(("name", "has_kernel"), [
    ("stm32h743-cmsis-nn", False), ("stm32h743-cmix-nn", True),
])  # fmt: skip
def test_elsewhere_narrow_weights_beside_codes_need_a_kernel_or_time(name, has_kernel):
    model = RooflineLatency(load_device(name))
    codes = replace(convolution(64), integer=True, activation_bits=8, onnx_type="int8")
    narrow = replace(codes, weight_bits=4, onnx_type="int4")
    wide_s, narrow_s = (model.predict(Work(operators=(op,))).value_s for op in (codes, narrow))
    assert (narrow_s <= wide_s) == has_kernel


def test_zeros_buy_no_time():
    assert seconds(replace(convolution(64), density=0.1)) == seconds(convolution(64))


def test_alternating_precision_costs_more_than_one_precision(
    residual_chain, blueprint_of, with_codes
):
    captured = residual_chain(4, 32)
    model = RooflineLatency(X86)
    whole = with_codes(blueprint_of(captured, bits=8, onnx_type="int8"))
    nodes = [op.node for op in whole.operators]
    alternating = with_codes(
        blueprint_of(captured, bits=8, onnx_type="int8"), skip=tuple(nodes[::2])
    )
    floating = model.predict(read_work(blueprint_of(captured))).value_s
    assert model.predict(read_work(whole)).value_s < 0.7 * floating
    assert model.predict(read_work(alternating)).value_s > floating


def test_the_parts_are_named_and_sum_to_the_latency(captured, blueprint_of):
    work = read_work(blueprint_of(captured))
    for name in list_devices():
        device = load_device(name)
        parts = Preset(device).total_s(work)
        assert tuple(parts) == PARTS
        assert all(value >= 0 for value in parts.values())
        estimate = RooflineLatency(device).predict(work)
        assert estimate.value_s == pytest.approx(sum(parts.values()))
        assert estimate.low_s < estimate.value_s < estimate.high_s


def test_a_microcontroller_takes_its_macs_over_its_rate():
    # TinyEngine: 0.241e9 MAC/s over whole networks, whatever the operator.
    device = load_device("stm32h743-tinyengine")
    op = convolution(64, True)
    value_s = RooflineLatency(device).predict(Work(operators=(op,))).value_s
    assert value_s == pytest.approx(op.macs / 0.241e9, rel=1e-3)


def test_more_threads_are_never_slower(captured, blueprint_of):
    work = read_work(blueprint_of(captured))
    times = [RooflineLatency(X86, threads).predict(work).value_s for threads in (1, 2, 4)]
    assert times == sorted(times, reverse=True)


def test_threads_the_device_lacks_are_refused():
    with pytest.raises(LatencyError, match=r"1\.\.4, got 5"):
        RooflineLatency(load_device("rpi4-a72-ort"), 5)


def test_narrow_weights_of_a_linear_layer_are_read_faster():
    wide = OperatorWork(
        name="linear",
        kind="linear",
        weight="linear.weight",
        macs=4096**2,
        in_channels=4096,
        out_channels=4096,
        input_elements=4096,
        output_elements=4096,
        weight_count=4096**2,
    )
    narrow = replace(wide, weight_bits=4, onnx_type="int4")
    assert 2 * seconds(narrow) < seconds(wide)
