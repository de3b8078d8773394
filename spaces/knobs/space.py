"""The space: every knob the rules leave open, each with a finite ordered domain.

Flat for the sampler (one integer per knob) but canonical for everyone else: decoding sets an inert
knob to its identity, so equal models have equal keys.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from paredown.spaces.candidates.candidate import Candidate, Setting
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.architecture_choice import ARCHITECTURE, ArchitectureKnob
from paredown.spaces.knobs.block_drop import layers_of
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.structure.model_map import LeftOut, ModelMap


@dataclass(frozen=True, kw_only=True)
class Space:
    """All architectures with their knobs.

    Knobs with a single value are kept: they are constants, applied when decoding and never sampled.
    `left_out` lists what the search will not touch and why.
    """

    architectures: tuple[Architecture, ...]
    left_out: tuple[LeftOut, ...] = ()

    @functools.cached_property
    def by_name(self) -> Mapping[str, Architecture]:
        """The architectures by name."""
        return {a.name: a for a in self.architectures}

    def model_map(self, candidate: Candidate) -> ModelMap:
        """The model map of the candidate's architecture."""
        return self.by_name[candidate.architecture].model_map

    @functools.cached_property
    def network(self) -> ArchitectureKnob:
        """The knob that chooses between the architectures, of which the first is the reference."""
        names = tuple(architecture.name for architecture in self.architectures)
        return ArchitectureKnob(name=ARCHITECTURE, targets=(ARCHITECTURE,), domain=names)

    @property
    def log10_size(self) -> float:
        """Decimal logarithm of the number of settings, inert ones counted."""
        sizes = (math.fsum(math.log10(len(k.domain)) for k in a.knobs) for a in self.architectures)
        return math.log10(math.fsum(10 ** min(size, 300.0) for size in sizes))

    def parameters(self, architecture: Architecture) -> Mapping[str, Knob]:
        """The knobs that settle a candidate of this architecture, by the name of their parameter."""
        prefix = f"{architecture.name}/" if architecture.name else ""
        own = {f"{prefix}{knob.name}": knob for knob in architecture.knobs}
        return {ARCHITECTURE: self.network, **own}

    def dimensions(self) -> Mapping[str, int]:
        """Sampled parameters and how many values each has, in a fixed order."""
        return {
            name: len(knob.domain)
            for architecture in self.architectures
            for name, knob in self.parameters(architecture).items()
            if len(knob.domain) > 1
        }

    def decode(self, parameters: Mapping[str, int]) -> Candidate:
        """The canonical candidate of a parameter setting; a missing parameter stands at 0."""
        architecture = self.architectures[parameters.get(ARCHITECTURE, 0)]
        setting = Setting()
        for name, knob in self.parameters(architecture).items():
            knob.apply(setting, knob.domain[parameters.get(name, 0)])
        return canonical(architecture, setting.candidate())

    def encode(self, candidate: Candidate) -> dict[str, int]:
        """Parameters that decode to `candidate`; inert knobs and other architectures stand at 0.

        Raises:
            ValueError: The candidate takes a value that is not in its knob's domain.
        """
        architecture = self.by_name[candidate.architecture]
        found = dict.fromkeys(self.dimensions(), 0)
        gone = layers_of(architecture.model_map, candidate.dropped)
        for name, knob in self.parameters(architecture).items():
            if name in found:
                found[name] = _index(architecture, knob, candidate, gone)
        return found

    def contains(self, candidate: Candidate) -> bool:
        """Whether a parameter setting decodes to `candidate`."""
        try:
            return self.decode(self.encode(candidate)) == candidate
        except (ValueError, KeyError):
            return False


def _index(
    architecture: Architecture, knob: Knob, candidate: Candidate, gone: frozenset[str]
) -> int:
    """Position of a value that canonical form shows as the candidate's; 0 where it hides the knob.

    Args:
        gone: The layers of dropped blocks.
    """
    model_map = architecture.model_map
    targets = [t for t in knob.targets if knob.is_live(model_map, candidate, gone, t)]
    values = [knob.read(candidate, target) for target in targets]
    if not targets:
        return 0
    if len(set(values)) == 1 and values[0] in knob.domain:
        return knob.domain.index(values[0])
    # Hidden, or tied to targets of which some hide it: sought by what each value would look like.
    for index, value in enumerate(knob.domain):
        setting = Setting.of(candidate)
        knob.apply(setting, value)
        shown = canonical(architecture, setting.candidate())
        if [knob.read(shown, target) for target in targets] == values:
            return index
    raise ValueError(f"{knob.name}: {values[0]!r} is not one of {knob.domain!r}")
