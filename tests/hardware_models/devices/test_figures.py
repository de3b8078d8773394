"""A figure needs a value above zero, a source and a confidence."""

import pytest
from pydantic import ValidationError

from paredown.hardware_models.devices.figures import Overhead, Rate


@pytest.mark.parametrize("value", [0, -1.0])
def test_a_rate_is_above_zero_and_an_overhead_may_be_zero(value):
    with pytest.raises(ValidationError, match="value"):
        Rate(value=value, source="a test", confidence="guess")
    if value == 0:
        assert Overhead(value=value, source="a test", confidence="guess").value == 0


def test_a_figure_without_a_source_is_refused():
    with pytest.raises(ValidationError, match="source"):
        Rate(value=1.0, source="", confidence="guess")
