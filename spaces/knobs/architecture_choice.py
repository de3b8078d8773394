"""Which network of the space a candidate is made from."""

from __future__ import annotations

from paredown.spaces.candidates.candidate import Candidate, Setting
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.structure.model_map import ModelMap

ARCHITECTURE = "architecture"
"""Name of the parameter that chooses the network, where there are several."""


class ArchitectureKnob(Knob[str]):
    """The name of a network. It is the only knob that all networks of a space share."""

    kind = "architecture"
    title = "network"
    part = "architectures"

    @property
    def label(self) -> str:
        """The name of its parameter: there is no other of its kind."""
        return self.name

    def apply(self, setting: Setting, value: str) -> None:
        """Sets the network."""
        setting.architecture = value

    def read(self, candidate: Candidate, target: str) -> str:
        """The network's name."""
        return candidate.architecture

    def layers_of(self, model_map: ModelMap, target: str) -> frozenset[str]:
        """Every layer."""
        return frozenset(model_map.layer_by_name)
