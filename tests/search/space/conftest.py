"""Spaces built of rules, for the tests of what rules become."""

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.config.schema_space import (
    GroupRule,
    SpaceSection,
)
from paredown.search.space.space_rules import build_space

PACKED = ("accuracy", "packed_bytes")
SHIPPED = ("accuracy", "onnx_bytes")
WIDTHS = GroupRule(groups=("layer3.0.conv1",), width=(1.0, 0.5))
RESNET_GROUPS = {"layer1.0.conv1": 8, "layer2.0.conv1": 16, "layer3.0.conv1": 32}


@pytest.fixture(scope="module")
def build(mapped):
    def make(
        *rules, network="resnet_a", goals=PACKED, device="x86-avx512-vnni-ort", find_ranks=None
    ):
        section = SpaceSection(rules=rules)
        offered = capabilities(load_device(device))
        return build_space(section, {"": mapped(network)}, offered, goals, find_ranks)

    return make


def domains(space):
    return {knob.name: knob.domain for knob in space.architectures[0].knobs}


def reasons(space, beginning):
    return [item.reason for item in space.left_out if item.what.startswith(beginning)]


@pytest.fixture(name="domains")
def _domains():
    """(space) -> domains of the knobs of its first network, by name."""
    return domains


@pytest.fixture(name="reasons")
def _reasons():
    """(space, beginning) -> why what begins so was left out."""
    return reasons
