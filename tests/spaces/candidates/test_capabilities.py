"""What several devices offer together is what all of them run."""

from dataclasses import replace

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.spaces.candidates.capabilities import joint

X86 = capabilities(load_device("x86-avx512-vnni-ort"))
PI = capabilities(load_device("rpi5-a76-ort"))
MCU = capabilities(load_device("stm32h743-tinyengine"))


def test_one_device_alone_offers_what_it_does():
    assert joint([X86]) == replace(X86, storage_weight_bits=X86.storage_weight_bits)


def test_steps_are_the_finest_that_save_time_somewhere():
    assert (X86.width_step, PI.width_step) == (16, 8)
    assert joint([X86, PI]).width_step == 8
    assert joint([X86, PI]).device == "x86-avx512-vnni-ort and rpi5-a76-ort"


def test_a_choice_must_run_on_every_device():
    offered = joint([X86, MCU])
    assert 32 not in offered.weight_bits
    assert offered.activation_bits == (8,)
    assert offered.weight_budget_bytes == 2 * 2**20
    assert set(offered.weight_bits) == set(X86.weight_bits) & set(MCU.weight_bits)


def test_a_pattern_that_is_fast_on_one_device_is_worth_searching():
    gpu = capabilities(load_device("a100-80g-trt"))
    assert "2:4" in joint([X86, gpu]).fast_patterns
    assert joint([X86, gpu]).storage_only_knobs == ()
