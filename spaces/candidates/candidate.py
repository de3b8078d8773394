"""A candidate: one setting of every knob, frozen, hashable and JSON."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

WeightBits = Literal[2, 3, 4, 5, 6, 8, 32]
Pattern = Literal["dense", "element", "2:4", "block"]
GroupSize = Literal[0, 32, 64, 128]
Decomposition = Literal["channel", "spatial", "tucker"]
Method = Literal["rtn", "laq", "gptq", "adaround", "obq", "descent", "joint"]
Container = Literal["compact", "fast"]
Ranges = Literal["static", "dynamic"]

GROUPED_METHODS: tuple[Method, ...] = ("rtn", "laq", "gptq", "descent")
"""Methods that find codes with several scales in a row."""


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """What is done to one layer's weights.

    `sparsity` is the share of weights set to zero, in [0, 1); `pattern` says how they lie (`zeros.py`).
    `rank_fraction` is the share of the full rank kept; 1 leaves the layer whole. `decomposition` is the
    form of what is not whole: "channel" (the kernel to few channels, then pointwise), "spatial" (down,
    then to the right) or "tucker" (pointwise, the kernel between few channels, pointwise).
    `written_fraction` is the share of tucker's second rank, what the kernel writes, where it differs
    from the first's.

    `method` finds zeros and codes: "rtn" by magnitude and rounding to nearest, "laq" weighed by the
    curvature (OBD, LAQ), "gptq" with compensation (SparseGPT, GPTQ), "adaround" by exact OBS and learned
    rounding, "obq" weight by weight (exact OBS, OBQ), "descent" by exact OBS and coordinate descent from
    GPTQ, "joint" as that with zeros and codes chosen together. `group_size` is how many consecutive
    inputs of a linear layer's output share a scale; 0 gives each output one.
    """

    weight_bits: int = 32
    sparsity: float = 0.0
    pattern: Pattern = "dense"
    rank_fraction: float = 1.0
    decomposition: Decomposition = "channel"
    written_fraction: float | None = None
    method: Method = "rtn"
    group_size: GroupSize = 0

    @property
    def is_identity(self) -> bool:
        """Whether the choice leaves the layer unchanged."""
        return self == IDENTITY_CHOICE

    @property
    def mean_rank_fraction(self) -> float:
        """The share of the full rank kept; of two ranks the mean of their shares."""
        if self.written_fraction is None:
            return self.rank_fraction
        return (self.rank_fraction + self.written_fraction) / 2


IDENTITY_CHOICE = LayerChoice()


@dataclass(frozen=True, kw_only=True)
class SegmentChoice:
    """How one segment of the graph computes.

    `activation_bits` is 8 (integer kernels) or 32 (float). `container` is how weights are stored in
    the ONNX file: "compact" takes the narrowest integer type the runtime loads, "fast" the type that
    keeps the fast kernel (int8 beside 8-bit activations, float32 beside float ones). `ranges` says
    where 8-bit codes have their range from: "static" from calibration data, for all values of the
    segment, or "dynamic" from the values themselves in every run, for what its linear layers of integer
    weights read; all else in the segment is float then.
    """

    activation_bits: int = 32
    container: Container = "compact"
    ranges: Ranges = "static"

    def of_layer(self, finds_range: bool, weight_bits: int) -> SegmentChoice:
        """The choice as a layer of these weights meets it: float where it reads floats.

        Args:
            finds_range: Whether it has a kernel that finds the range of its input in every run.
        """
        if self.ranges == "static" or (finds_range and weight_bits < 32):
            return self
        return SegmentChoice(container=self.container)


IDENTITY_SEGMENT = SegmentChoice()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting of every knob, canonical: what is at its identity is left out.

    `layers`, `segments` and `widths` are sorted by name; `widths` gives channels kept per group;
    `dropped` names the blocks that are skipped; `architecture` is "" where there is only one.
    """

    architecture: str = ""
    layers: tuple[tuple[str, LayerChoice], ...] = ()
    segments: tuple[tuple[str, SegmentChoice], ...] = ()
    widths: tuple[tuple[str, int], ...] = ()
    dropped: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        architecture: str = "",
        layers: Mapping[str, LayerChoice] | None = None,
        segments: Mapping[str, SegmentChoice] | None = None,
        widths: Mapping[str, int] | None = None,
        dropped: tuple[str, ...] | frozenset[str] = (),
    ) -> Candidate:
        """A candidate from plain mappings, sorted and without identities."""
        return cls(
            architecture=architecture,
            layers=tuple(
                sorted((n, c) for n, c in (layers or {}).items() if c != IDENTITY_CHOICE)
            ),
            segments=tuple(
                sorted((n, c) for n, c in (segments or {}).items() if c != IDENTITY_SEGMENT)
            ),
            widths=tuple(sorted((widths or {}).items())),
            dropped=tuple(sorted(dropped)),
        )

    @functools.cached_property
    def key(self) -> str:
        """Digest of the canonical JSON: 12 hexadecimal digits, equal for equal candidates."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def layer(self, name: str) -> LayerChoice:
        """The choice for the layer `name`; the identity where none is recorded."""
        return dict(self.layers).get(name, IDENTITY_CHOICE)

    def segment(self, name: str) -> SegmentChoice:
        """The choice for the segment `name`; the identity where none is recorded."""
        return dict(self.segments).get(name, IDENTITY_SEGMENT)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; only what differs from the identity is written."""
        return {
            "architecture": self.architecture,
            "layers": {n: _differences(c, IDENTITY_CHOICE) for n, c in self.layers},
            "segments": {n: _differences(c, IDENTITY_SEGMENT) for n, c in self.segments},
            "widths": dict(self.widths),
            "dropped": list(self.dropped),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        """The candidate that `to_json` wrote.

        Raises:
            TypeError: A choice holds a field that does not exist.
        """
        return cls.of(
            architecture=data.get("architecture", ""),
            layers={n: LayerChoice(**c) for n, c in data.get("layers", {}).items()},
            segments={n: SegmentChoice(**c) for n, c in data.get("segments", {}).items()},
            widths={n: int(w) for n, w in data.get("widths", {}).items()},
            dropped=tuple(data.get("dropped", ())),
        )


def _differences(choice: Any, identity: Any) -> dict[str, Any]:
    values = {f.name: getattr(choice, f.name) for f in fields(choice)}
    return {n: value for n, value in values.items() if value != getattr(identity, n)}
