"""What every knob is: a decision with a finite ordered domain, and where it stands in a candidate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from paredown.spaces.candidates.candidate import (
    IDENTITY_CHOICE,
    Candidate,
    LayerChoice,
    Setting,
)
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.structure.model_map import ModelMap, Segment

ValueT = TypeVar("ValueT")
Part = Literal["layers", "segments", "groups", "blocks", "architectures"]


@dataclass(frozen=True, kw_only=True)
class Knob(ABC, Generic[ValueT]):
    """One decision: a value of `domain` for all of `targets` (several when tied).

    `domain` runs from the value that harms accuracy least to the one that compresses most. A class is a
    kind of knob: `kind` names it in parameters and rules, `title` for people; `part` is what its targets
    are. `changes_costs` says whether values differ in cost, `is_predictable` whether the damage predicted
    for one is near enough to begin a search with.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    part: ClassVar[Part]
    changes_costs: ClassVar[bool] = True
    is_predictable: ClassVar[bool] = True

    name: str
    targets: tuple[str, ...]
    domain: tuple[ValueT, ...]

    @abstractmethod
    def apply(self, setting: Setting, value: ValueT) -> None:
        """Sets all targets to `value`, in place."""

    @abstractmethod
    def read(self, candidate: Candidate, target: str) -> ValueT:
        """The value of one target in `candidate`."""

    @abstractmethod
    def layers_of(self, model_map: ModelMap, target: str) -> frozenset[str]:
        """The layers that a target consists of: where all of them are dropped, so is the target."""

    def tensors_of(self, model_map: ModelMap) -> frozenset[str]:
        """The tensors whose bytes its values change: the weights of its targets' layers."""
        names = (name for target in self.targets for name in self.layers_of(model_map, target))
        return frozenset(model_map.layer_by_name[name].weight for name in names)

    def is_live(
        self, model_map: ModelMap, candidate: Candidate, gone: AbstractSet[str], target: str
    ) -> bool:
        """Whether `candidate` shows the target's value.

        Args:
            gone: The layers of the candidate's dropped blocks.
        """
        layers = self.layers_of(model_map, target)
        return not layers or not layers <= gone

    def touches(self, model_map: ModelMap, segment: Segment) -> bool:
        """Whether the knob changes any work inside the segment."""
        inside = frozenset(segment.layers)
        return any(inside & self.layers_of(model_map, target) for target in self.targets)

    @property
    def label(self) -> str:
        """The knob as people read it: "conv1: weight bits"."""
        first, *others = self.targets
        tied = f" and {len(others)} tied to it" if others else ""
        return f"{first}{tied}: {self.title}"

    @property
    def domain_text(self) -> str:
        """All values, from the one that harms least to the one that compresses most."""
        return ", ".join(map(self.text, self.domain))

    def plain(self, value: ValueT) -> int | str:
        """A value as a number where it is a count, and as people read it elsewhere."""
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return self.text(value)

    def text(self, value: ValueT) -> str:
        """A value as people read it."""
        return str(value)

    def bytes_only(self, offered: Capabilities) -> tuple[ValueT, ...]:
        """The values that save bytes and no time on the device."""
        return self.domain if self.kind in offered.storage_only_knobs else ()


class LayerKnob(Knob[ValueT]):
    """A knob of layers: one field of what is chosen for their weights."""

    part = "layers"

    @abstractmethod
    def changed(self, choice: LayerChoice, value: ValueT) -> LayerChoice:
        """`choice` with this knob at `value`."""

    @abstractmethod
    def value_of(self, choice: LayerChoice) -> ValueT:
        """Where this knob stands in `choice`."""

    def apply(self, setting: Setting, value: ValueT) -> None:
        """Sets the field in the choice of every target."""
        for target in self.targets:
            choice = setting.layers.get(target, IDENTITY_CHOICE)
            setting.layers[target] = self.changed(choice, value)

    def read(self, candidate: Candidate, target: str) -> ValueT:
        """The field of one layer's choice."""
        return self.value_of(candidate.layer(target))

    def layers_of(self, model_map: ModelMap, target: str) -> frozenset[str]:
        """The layer itself."""
        return frozenset({target})
