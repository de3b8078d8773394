"""Networks drawn for timing are many, different and the same again."""

from __future__ import annotations

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.search.calibrating.drawing import family_networks, imagine, uniform
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space

X86 = load_device("x86-avx512-vnni-ort")


@pytest.fixture(scope="module")
def networks():
    return family_networks(("mlp",), 20, X86, lambda text: None)


def test_networks_of_a_family_are_many_and_reproducible(networks):
    assert len(networks) == 20
    assert len({n.model for n in networks}) == 20
    assert sorted({n.group for n in networks}) == [0, 1, 2, 3, 4]
    again = family_networks(("mlp",), 4, X86, lambda text: None)
    assert [n.model for n in again] == [n.model for n in networks[:4]]


def test_imagined_weights_hold_every_code_of_their_width(mapped):
    model_map = mapped("lenet")
    space = Space(architectures=(Architecture(name="", model_map=model_map, knobs=()),))
    for bits, wanted in ((1, {-1, 1}), (2, {-1, 0, 1}), (3, set(range(-3, 4)))):
        model = imagine(draft(model_map, uniform(space, "", bits)), seed=0)
        codes = [tensor.values for tensor in model.stored.values() if tensor.storage.bits == bits]
        assert len(codes) == len(model_map.layers)
        assert {int(code) for each in codes for code in each.unique()} == wanted
