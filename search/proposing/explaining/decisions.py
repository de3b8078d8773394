"""The decisions of a candidate, which can be put back alone: a layer's choice, a width, a drop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paredown.spaces.candidates.candidate import Candidate, Setting
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import layers_of
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.knob import Knob, Part

PARTS: Mapping[Part, str] = {
    "layers": "weights",
    "groups": "channels",
    "blocks": "dropping",
    "segments": "activations",
    "architectures": "network",
}
"""What a decision is about, by the part that its targets are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """Knobs of the same targets, as one decision: bits, zeros, rank and method of a layer.

    `weights` counts those of the layers that it reaches.
    """

    architecture: Architecture
    knobs: tuple[Knob, ...]
    weights: int

    @property
    def part(self) -> Part:
        """What the targets are."""
        return self.knobs[0].part

    @property
    def name(self) -> str:
        """The targets as people read them."""
        first, *others = self.knobs[0].targets
        owner = f"{self.architecture.name}/" if self.architecture.name else ""
        return f"{owner}{first}" + (f" and {len(others)} tied to it" if others else "")

    @property
    def label(self) -> str:
        """The targets, and what of them is decided: "conv1: weights"."""
        return f"{self.name}: {PARTS[self.part]}"

    def text(self, candidate: Candidate) -> str:
        """What `candidate` decides, knob by knob; "" where all stands at the identity."""
        whole = self._values(Candidate(architecture=self.architecture.name))
        return _listed(
            f"{knob.title} {knob.text(value)}"
            for knob, value, same in zip(self.knobs, self._values(candidate), whole, strict=True)
            if value != same
        )

    def change(self, one: Candidate, other: Candidate) -> str:
        """What stands otherwise in `other` than in `one`; "" for nothing, or what went with a block."""
        if self._live(one) is None or self._live(other) is None:
            return ""
        return _listed(
            f"{knob.title} {knob.text(before)} → {knob.text(after)}"
            for knob, before, after in zip(
                self.knobs, self._values(one), self._values(other), strict=True
            )
            if before != after
        )

    def undo(self, setting: Setting) -> None:
        """Puts it back to the identity, in place."""
        whole = self._values(Candidate(architecture=self.architecture.name))
        for knob, value in zip(self.knobs, whole, strict=True):
            knob.apply(setting, value)

    def _values(self, candidate: Candidate) -> list[object]:
        target = self._live(candidate) or self.knobs[0].targets[0]
        return [knob.read(candidate, target) for knob in self.knobs]

    def _live(self, candidate: Candidate) -> str | None:
        """The first target that `candidate` shows; None where all went with blocks."""
        model_map, first = self.architecture.model_map, self.knobs[0]
        gone = layers_of(model_map, candidate.dropped)
        live = (t for t in first.targets if first.is_live(model_map, candidate, gone, t))
        return next(live, None)


def decisions_of(architecture: Architecture) -> tuple[Decision, ...]:
    """All decisions about a network, in the order of its knobs."""
    together: dict[tuple[Part, tuple[str, ...]], list[Knob]] = {}
    for knob in architecture.knobs:
        together.setdefault((knob.part, knob.targets), []).append(knob)
    return tuple(
        Decision(
            architecture=architecture, knobs=tuple(each), weights=_weights(architecture, each)
        )
        for each in together.values()
    )


def put_back(
    architecture: Architecture, candidate: Candidate, decisions: Iterable[Decision]
) -> Candidate:
    """The canonical candidate without these decisions; equal where they make no difference."""
    setting = Setting.of(candidate)
    for decision in decisions:
        decision.undo(setting)
    return canonical(architecture, setting.candidate())


def _weights(architecture: Architecture, knobs: Iterable[Knob]) -> int:
    layers = architecture.model_map.layer_by_name
    reached = {
        name
        for knob in knobs
        for target in knob.targets
        for name in knob.layers_of(architecture.model_map, target)
    }
    return sum(layers[name].weight_count for name in reached)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)
