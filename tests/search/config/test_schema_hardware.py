"""Axes that stay free: their ranges are in order, and there is one batch."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from paredown.search.config.schema_hardware import HardwareSection


def test_axes_say_what_costs_are_for() -> None:
    time = {"from": 4, "to": 48, "price_at": 16}
    section = HardwareSection.model_validate({"axes": {"batch": {"price_at": 3}, "time": time}})
    assert section.priced_batch == 3
    assert section.axes.time is not None
    assert section.axes.time.lengths == (4, 48)
    assert HardwareSection(batch_size=5).priced_batch == 5


@pytest.mark.parametrize("lengths", [(8, 48, 4), (9, 4, 6)])
def test_a_price_lies_within_the_range(lengths: tuple[int, int, int]) -> None:
    time = dict(zip(("from", "to", "price_at"), lengths, strict=True))
    with pytest.raises(ValidationError, match="must lie between `from` and `to`, got"):
        HardwareSection.model_validate({"axes": {"time": time}})


def test_two_batches_contradict_each_other() -> None:
    given = {"batch_size": 2, "axes": {"batch": {"price_at": 1}}}
    with pytest.raises(ValidationError, match=r"got 2 and 1; leave out hardware\.batch_size"):
        HardwareSection.model_validate(given)
    HardwareSection.model_validate({**given, "batch_size": 1})
