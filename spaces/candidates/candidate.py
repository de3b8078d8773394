"""A candidate: one setting of every knob, frozen, hashable and JSON."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from paredown.spaces.candidates.ranks import WHOLE, Rank
from paredown.spaces.candidates.zeros import DENSE, Zeros
from paredown.spaces.system.json_values import Json

WeightBits = Literal[1, 2, 3, 4, 5, 6, 8, 32]
GroupSize = Literal[0, 32, 64, 128]
Method = Literal["rtn", "laq", "gptq", "adaround", "obq", "descent", "joint"]
Container = Literal["compact", "fast"]
Ranges = Literal["static", "dynamic"]

GROUPED_METHODS: tuple[Method, ...] = ("rtn", "laq", "gptq", "descent")
"""Methods that find codes with several scales in a row."""
METHODS_WITH_ZERO: tuple[Method, ...] = ("adaround", "obq")
"""Methods that round to whole numbers, zero among them: 1-bit codes are -1 and 1 alone."""


Fields = Mapping[str, int | float | str | None]
"""A choice in JSON."""


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """What is done to one layer's weights.

    `method` finds zeros and codes: "rtn" by magnitude and rounding to nearest, "laq" weighed by the
    curvature (OBD, LAQ), "gptq" with compensation (SparseGPT, GPTQ), "adaround" by exact OBS and learned
    rounding, "obq" weight by weight (exact OBS, OBQ), "descent" by exact OBS and coordinate descent from
    GPTQ, "joint" as that with zeros and codes chosen together. `group_size` is how many consecutive
    inputs of a linear layer's output share a scale; 0 gives each output one.
    """

    weight_bits: int = 32
    zeros: Zeros = DENSE
    rank: Rank = WHOLE
    method: Method = "rtn"
    group_size: GroupSize = 0

    @property
    def is_identity(self) -> bool:
        """Whether the choice leaves the layer unchanged."""
        return self == IDENTITY_CHOICE

    @property
    def lacks_zero(self) -> bool:
        """Whether it asks 1-bit codes, which have no zero, for zeros or a method that rounds to one."""
        needs_zero = self.zeros.share > 0 or self.method in METHODS_WITH_ZERO
        return self.weight_bits == 1 and needs_zero

    def to_json(self) -> Fields:
        """The fields that differ from the identity's, by the names that files have."""
        return _differing(_layer_fields(self), _layer_fields(IDENTITY_CHOICE))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerChoice:
        """The choice that `to_json` wrote.

        Raises:
            TypeError: It holds a field that does not exist.
        """
        rest = dict(data)
        zeros = Zeros(rest.pop("sparsity", DENSE.share), rest.pop("pattern", DENSE.pattern))
        rank = Rank(
            rest.pop("rank_fraction", WHOLE.share),
            rest.pop("decomposition", WHOLE.form),
            rest.pop("written_fraction", WHOLE.written_share),
        )
        return cls(zeros=zeros, rank=rank, **rest)


IDENTITY_CHOICE = LayerChoice()


def _layer_fields(choice: LayerChoice) -> Fields:
    return {
        "weight_bits": choice.weight_bits,
        "sparsity": choice.zeros.share,
        "pattern": choice.zeros.pattern,
        "rank_fraction": choice.rank.share,
        "decomposition": choice.rank.form,
        "written_fraction": choice.rank.written_share,
        "method": choice.method,
        "group_size": choice.group_size,
    }


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

    @property
    def text(self) -> str:
        """As people read it.

        >>> SegmentChoice(activation_bits=8, ranges="dynamic").text
        '8 bit dynamic compact'
        """
        ranges = " dynamic" if self.ranges == "dynamic" else ""
        return f"{self.activation_bits} bit{ranges} {self.container}"

    def to_json(self) -> Fields:
        """The fields that differ from the identity's."""
        return _differing(vars(self), vars(IDENTITY_SEGMENT))


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

    def to_json(self) -> Mapping[str, Json]:
        """What files hold of the candidate, and what its key is the digest of."""
        return {
            "architecture": self.architecture,
            "layers": {n: c.to_json() for n, c in self.layers},
            "segments": {n: c.to_json() for n, c in self.segments},
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
            layers={n: LayerChoice.from_json(c) for n, c in data.get("layers", {}).items()},
            segments={n: SegmentChoice(**c) for n, c in data.get("segments", {}).items()},
            widths={n: int(w) for n, w in data.get("widths", {}).items()},
            dropped=tuple(data.get("dropped", ())),
        )


def _differing(fields: Fields, identity: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value != identity[name]}


@dataclass(kw_only=True)
class Setting:
    """A candidate in the making, which knobs write into."""

    architecture: str = ""
    layers: dict[str, LayerChoice] = field(default_factory=dict)
    segments: dict[str, SegmentChoice] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, candidate: Candidate) -> Setting:
        """A setting that stands where `candidate` does."""
        return cls(
            architecture=candidate.architecture,
            layers=dict(candidate.layers),
            segments=dict(candidate.segments),
            widths=dict(candidate.widths),
            dropped=set(candidate.dropped),
        )

    def candidate(self) -> Candidate:
        """The candidate, as it was set: `canonical` takes out what makes no difference."""
        return Candidate.of(
            architecture=self.architecture,
            layers=self.layers,
            segments=self.segments,
            widths=self.widths,
            dropped=frozenset(self.dropped),
        )
