"""The `space` section of the config: what the search may change, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from paredown.search.config.schema_section import Section
from paredown.search.config.schema_task import ExistingFile
from paredown.spaces.candidates.candidate import Container, GroupSize, Method, Ranges, WeightBits
from paredown.spaces.candidates.ranks import Decomposition
from paredown.spaces.system.json_values import Json

ActivationBits = Literal[8, 32]
SparsityPattern = Literal["element", "2:4", "block"]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
RankError = Annotated[float, Field(gt=0.0, lt=1.0)]
Sparsity = Annotated[float, Field(ge=0.0, lt=1.0)]


T = TypeVar("T")


def _one_or_more(value: T) -> T | tuple[T]:
    return (value,) if isinstance(value, str) else value


def _filled_once(noun: str) -> Callable[[tuple[T, ...]], tuple[T, ...]]:
    def _check(value: tuple[T, ...]) -> tuple[T, ...]:
        if not value:
            raise ValueError(f"must name at least one {noun}; leave the key out to change nothing")
        if len(set(value)) < len(value):
            raise ValueError(f"must name each {noun} once; delete the repeated one")
        return value

    return _check


Globs = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=str | list[str]),
    AfterValidator(_filled_once("pattern")),
]
_choices = AfterValidator(_filled_once("choice"))


class LayerRule(Section):
    """Choices for the weights of the layers that match."""

    layers: Globs = Field(description="Glob or globs of layer names, such as 'layer1.*'.")
    weight_bits: Annotated[tuple[WeightBits, ...], _choices] | None = Field(
        None, description="Weight widths to choose from, of 1, 2, 3, 4, 5, 6, 8, 32 (32 is float)."
    )
    sparsity: Annotated[tuple[Sparsity, ...], _choices] | None = Field(
        None, description="Shares of weights set to zero, each in [0, 1)."
    )
    pattern: Annotated[tuple[SparsityPattern, ...], _choices] | None = Field(
        None,
        description="How zeros lie: element (anywhere), 2:4 (two of every four) or block (four "
        "neighbours of a row together).",
    )
    rank_fraction: Annotated[tuple[Share, ...], _choices] | None = Field(
        None, description="Shares of the full rank to keep, each in (0, 1]; 1 leaves it whole."
    )
    rank_error: Annotated[tuple[RankError, ...], _choices] | None = Field(
        None,
        description="Shares of a layer's output energy that a low rank may lose, each in (0, 1): for "
        "each form the thinnest ranks that lose no more.",
    )
    decomposition: Annotated[tuple[Decomposition, ...], _choices] | None = Field(
        None,
        description="Forms of a 2-d convolution of lower rank: channel (k x k, then 1 x 1; the default), "
        "spatial (k x 1, then 1 x k), tucker (1 x 1, k x k, 1 x 1).",
    )
    rank_step: int | None = Field(
        None,
        ge=1,
        description="Multiple the rank must be of; null: the device's where latency is a goal.",
    )
    method: Annotated[tuple[Method, ...], _choices] | None = Field(
        None,
        description="rtn (round to nearest, magnitude), laq (weighed by curvature), gptq (error "
        "compensated), adaround (up or down, learned, 2 to 4 bits), obq (exact OBS, slow), descent "
        "(coordinate descent, best at 1 to 4 bits), joint (zeros and codes together).",
    )
    group_size: Annotated[tuple[GroupSize, ...], _choices] | None = Field(
        None,
        description="Linear layers beside float activations, and embeddings: inputs (of an embedding "
        "columns) that share a scale, 32, 64 or 128; 0 is one scale for each output.",
    )
    tie: bool | None = Field(None, description="True: all matched layers share one choice.")

    @property
    def globs(self) -> tuple[str, ...]:
        """Patterns of the layers' names."""
        return self.layers


class SegmentRule(Section):
    """Choices for how the segments that match compute."""

    segments: Globs = Field(description="Glob or globs of segment names.")
    activation_bits: Annotated[tuple[ActivationBits, ...], _choices] | None = Field(
        None, description="8 (integer kernels), 32 (float), or both."
    )
    container: Annotated[tuple[Container, ...], _choices] | None = Field(
        None, description="compact (narrowest type that loads) or fast (keeps the fast kernel)."
    )
    ranges: Annotated[tuple[Ranges, ...], _choices] | None = Field(
        None,
        description="Of 8-bit activations: static (from calibration data; the default) or dynamic (found "
        "in every run, for what linear layers read; all else is float).",
    )
    tie: bool | None = Field(None, description="True: all matched segments share one choice.")

    @property
    def globs(self) -> tuple[str, ...]:
        """Patterns of the segments' names."""
        return self.segments


class GroupRule(Section):
    """Choices for the channel groups that match."""

    groups: Globs = Field(description="Glob or globs of channel-group names.")
    width: Annotated[tuple[Share, ...], _choices] = Field(
        description="Shares of the channels to keep, each in (0, 1]."
    )
    step: int | None = Field(
        None,
        ge=1,
        description="Multiple the channels kept must be of; null: the device's, "
        "and of attention heads any number.",
    )

    @property
    def globs(self) -> tuple[str, ...]:
        """Patterns of the groups' names."""
        return self.groups


class BlockRule(Section):
    """Whether the residual blocks that match may be skipped."""

    blocks: Globs = Field(description="Glob or globs of block names.")
    drop: bool = Field(description="True: the search may drop the block.")

    @property
    def globs(self) -> tuple[str, ...]:
        """Patterns of the blocks' names."""
        return self.blocks


_KEYS = {
    "layers": "LayerRule",
    "segments": "SegmentRule",
    "groups": "GroupRule",
    "blocks": "BlockRule",
}


def _rule_kind(value: Section | Json) -> str | None:
    if isinstance(value, Section):
        return type(value).__name__
    if not isinstance(value, dict):
        return None
    kinds = [kind for key, kind in _KEYS.items() if key in value]
    return kinds[0] if len(kinds) == 1 else None


Rule = Annotated[
    Annotated[LayerRule, Tag("LayerRule")]
    | Annotated[SegmentRule, Tag("SegmentRule")]
    | Annotated[GroupRule, Tag("GroupRule")]
    | Annotated[BlockRule, Tag("BlockRule")],
    Discriminator(
        _rule_kind,
        custom_error_type="rule_kind",
        custom_error_message="must name exactly one of layers, segments, groups, blocks",
    ),
]

DEFAULT_RULES: tuple[Rule, ...] = (
    LayerRule(
        layers=("*",),
        weight_bits=(2, 3, 4, 5, 6, 8, 32),
        sparsity=(0.0, 0.5),
        pattern=("element",),
        rank_fraction=(1.0, 0.5),
        method=("rtn", "gptq"),
    ),
    SegmentRule(
        segments=("*",),
        activation_bits=(8, 32),
        container=("compact", "fast"),
        ranges=("static", "dynamic"),
    ),
    GroupRule(groups=("*",), width=(1.0, 0.75, 0.5)),
    BlockRule(blocks=("*",), drop=True),
)


class Architecture(Section):
    """One network of the search: what differs from the task's own model."""

    model: str | None = Field(
        None, description="Task cifar10: resnet20 or resnet56; null is the task's own."
    )
    kwargs: dict[str, Any] = Field(
        {}, description="Keyword arguments of the model factory, over the task's own."
    )
    weights: ExistingFile | None = Field(
        None, description="Its trained weights; null takes the task's own."
    )


class SpaceSection(Section):
    """The knobs that stay open."""

    architectures: dict[str, Architecture] = Field(
        {},
        description="Name to network, each a choice of the search; the first is the uncompressed "
        "reference. Empty: the task's own model alone.",
    )
    rules: tuple[Rule, ...] = Field(
        DEFAULT_RULES,
        description="What may be chosen where; a later rule overrides an earlier one key by key.",
    )

    @model_validator(mode="after")
    def _names_are_plain(self) -> SpaceSection:
        for name in self.architectures:
            if not name.strip():
                raise ValueError("architectures: a name must not be empty; give each network one")
        return self
