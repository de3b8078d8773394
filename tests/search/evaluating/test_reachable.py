"""Bounds that no model meets: the nearest is the least of all, and what is advised can be met."""

import itertools
import re

import pytest

from paredown.search.config.reading import load_config
from paredown.search.evaluating.baseline import preset_costs
from paredown.search.evaluating.bounds import refuse_unreachable
from paredown.search.evaluating.reachable import BoundError, _rounded_up, check_bounds, nearest
from paredown.search.evaluating.surveying import survey
from paredown.search.study.evaluation import Goal
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.drafting import draft

CONFIG = """\
task: {{name: digits}}
hardware: {{latency: roofline, device: x86-avx2-ort}}
space:
  rules:
    - {{layers: "*", weight_bits: [8, 2, 4], tie: true}}
    - {{groups: "*", width: [0.5, 1.0, 0.75]}}
    - {{blocks: "*", drop: true}}
goals: [{{metric: accuracy}}, {{metric: onnx_bytes, {bound}}}, {{metric: macs{macs}}}]
"""


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    """(bound on onnx_bytes, further text of macs) -> the survey of a space small enough to count."""
    folder = tmp_path_factory.mktemp("bounds")

    def make(bound="at_most: 10", macs=""):
        path = folder / "toy.yaml"
        path.write_text(CONFIG.format(bound=bound, macs=macs))
        return survey(load_config(path))

    return make


def everything(space):
    sizes = space.dimensions()
    for values in itertools.product(*map(range, sizes.values())):
        yield space.decode(dict(zip(sizes, values, strict=True)))


def price_of(surveyed):
    models, space = preset_costs(surveyed), surveyed.space
    return lambda candidate, names: models.price(
        draft(space.model_map(candidate), candidate), names
    )


def test_the_nearest_is_the_cheapest_of_all_candidates(surveyed):
    found = surveyed()
    price = price_of(found)
    least = min(price(each, ["onnx_bytes"])["onnx_bytes"] for each in everything(found.space))
    goal = Goal(metric="onnx_bytes", direction="minimize", at_most=10.0)
    assert nearest(found.space, [goal], price).values["onnx_bytes"] == least
    with pytest.raises(BoundError, match=rf"set its at_most to {least:.0f}\b"):
        refuse_unreachable(found)


def test_what_is_advised_can_be_met(surveyed):
    with pytest.raises(BoundError) as refusal:
        refuse_unreachable(surveyed("at_most: 1.0e-5, relative: true"))
    advised = re.search(r"set its at_most to (\S+) or more", str(refusal.value))[1]
    refuse_unreachable(surveyed(f"at_most: {advised}, relative: true"))


def test_bounds_that_only_together_cannot_be_met_are_named_together():
    """Two candidates, each within one bound: by hand."""
    few, small = Candidate(), Candidate.of(layers={"a": LayerChoice(weight_bits=4)})
    prices = {few.key: {"macs": 1.0, "bops": 9.0}, small.key: {"macs": 9.0, "bops": 1.0}}

    class Two:
        architectures = (None,)

        def dimensions(self):
            return {"which": 2}

        def decode(self, parameters):
            return (few, small)[parameters["which"]]

    goals = [Goal(metric=name, direction="minimize", at_most=5.0) for name in ("macs", "bops")]
    with pytest.raises(BoundError, match=r"macs <= 5.* and bops <= 5.* together"):
        check_bounds(Two(), goals, lambda c, names: prices[c.key], prices[few.key])
    loose = [goals[0], Goal(metric="bops", direction="minimize", at_most=9.0)]
    check_bounds(Two(), loose, lambda c, names: prices[c.key], prices[few.key])


@pytest.mark.parametrize("value", [1393.0, 11_949.7, 0.123_41, 3.000_01e-5, 7e9, 123_456_789.0])
def test_a_bound_is_rounded_up_by_less_than_a_thousandth(value):
    assert value <= float(_rounded_up(value)) <= value * 1.001
