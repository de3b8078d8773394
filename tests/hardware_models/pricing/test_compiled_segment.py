from __future__ import annotations

import numpy as np
import pytest

from paredown.hardware_models.pricing.compiled_segment import Entry, Unit, alike


def unit(**changes) -> Unit:
    facts = {
        "columns": (0, 2), "radix": np.array([1, 3]), "drop": None, "remains": False,
        "precision": 1, "bits": np.array([32, 8]),
    }  # fmt: skip
    return Unit(**{**facts, **changes})


POPULATION = np.array([[0, 0, 0], [2, 1, 0], [1, 0, 1], [2, 0, 1]])


def test_every_setting_of_its_knobs_has_a_number_of_its_own():
    assert unit().own(POPULATION).tolist() == [1, 3, 5, 6]


def test_a_dropped_segment_has_one_number_whatever_its_knobs():
    assert unit(drop=2).own(POPULATION).tolist() == [1, 3, 0, 0]


def test_precision_follows_its_knob_or_is_constant():
    assert unit().bits_of(POPULATION).tolist() == [32, 8, 32, 32]
    assert unit(precision=None, bits=np.array([8])).bits_of(POPULATION).tolist() == [8] * 4


@pytest.mark.parametrize(
    ("changes", "same"),
    [({}, True), ({"seconds": (1.0, 2.0 + 1e-12)}, True), ({"seconds": (1.0, 2.1)}, False),
     ({"state": 1}, False), ({"weight_bits": 9}, False)],
)  # fmt: skip
def test_entries_agree_in_seconds_bits_precisions_and_state(changes, same):
    facts = {"seconds": (1.0, 2.0), "weight_bits": 8, "precisions": 1, "state": 0}
    assert alike(Entry(**facts), Entry(**{**facts, **changes})) == same
