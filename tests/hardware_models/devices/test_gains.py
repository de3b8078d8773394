"""A gain cannot contradict itself."""

import pytest
from pydantic import ValidationError

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.gains import Gain

KNOWN = {"source": "a test", "confidence": "guess"}


@pytest.mark.parametrize(
    ("effect", "speedup"),
    [("faster", None), ("faster", (0.5, 1.0)), ("slower", (1.1, 2.0)), ("faster", (3.0, 2.0))],
)
def test_effect_and_speedup_agree(effect, speedup):
    with pytest.raises(ValidationError, match="speedup"):
        Gain(effect=effect, speedup=speedup, **KNOWN)


def test_a_gain_may_be_a_loss_for_some_layers():
    assert Gain(effect="faster", speedup=(0.8, 4.0), **KNOWN).speedup == (0.8, 4.0)
    assert Gain(effect="slower", **KNOWN).speedup is None


def test_one_bit_runs_as_the_two_that_it_is_stored_in():
    gains = load_device("stm32h743-cmix-nn").gains
    assert gains.of_bits(1) == gains.of_bits(2) != gains.of_bits(3)
