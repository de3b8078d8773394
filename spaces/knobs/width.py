"""The channels that a group keeps."""

from __future__ import annotations

from dataclasses import dataclass

from paredown.spaces.candidates.candidate import Candidate, Setting
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.structure.model_map import ModelMap, Segment


@dataclass(frozen=True, kw_only=True)
class WidthKnob(Knob[int]):
    """How many channels are kept of groups that have `channels` each."""

    kind = "width"
    title = "channels"
    part = "groups"

    channels: int

    def apply(self, setting: Setting, value: int) -> None:
        """Sets the width of every target; a whole group has no entry."""
        for target in self.targets:
            setting.widths.pop(target, None)
            if value < self.channels:
                setting.widths[target] = value

    def read(self, candidate: Candidate, target: str) -> int:
        """Channels kept of one group."""
        return dict(candidate.widths).get(target, self.channels)

    def layers_of(self, model_map: ModelMap, target: str) -> frozenset[str]:
        """The layers whose outputs are the channels."""
        makers = (group.producers for group in model_map.groups if group.name == target)
        return frozenset(next(makers))

    def tensors_of(self, model_map: ModelMap) -> frozenset[str]:
        """Every tensor that has the channels along one of its dimensions."""
        return frozenset(
            name
            for (name, _), parts in model_map.tensor_parts.items()
            if any(part.group in self.targets for part in parts)
        )

    def touches(self, model_map: ModelMap, segment: Segment) -> bool:
        """Whether a layer inside makes or reads the channels."""
        groups = [group for group in model_map.groups if group.name in self.targets]
        return any(
            {*group.producers, *group.consumers}.intersection(segment.layers) for group in groups
        )
