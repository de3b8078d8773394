"""A first config for a network of the user's own or of a library: what must be said, and every default.

Names, defaults and descriptions come from the config's own schema, so the file is never out of date.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, Union, get_args

import yaml
from pydantic import BaseModel

from paredown.search.config.qualities import ACCURACY, QUALITIES
from paredown.search.config.schema import OutputSection, SearchSection, TrackingSection
from paredown.search.config.schema_hardware import HardwareSection
from paredown.search.config.schema_task import (
    QUALITY_OF_KIND,
    CustomTask,
    HubKind,
    HuggingFaceTask,
)
from paredown.spaces.system.bounded import UnreadableTextError, as_mapping, read_json
from paredown.spaces.system.errors import ParedownError

_LINE = 96
_SPACE = """\
space:
  # What may be chosen where. A later rule overrides an earlier one, and `paredown inspect` prints
  # the names of layers, segments, groups and blocks.
  rules:
"""
_RULES = """\
    - {layers: "*", weight_bits: [2, 3, 4, 6, 8, 32], method: [gptq]}
    - {segments: "*", activation_bits: [8, 32]}
    - {groups: "*", width: [1.0, 0.75, 0.5]}
    - {blocks: "*", drop: true}"""
_RULES_OF_TRANSFORMERS = """\
    - {layers: "*", weight_bits: [4, 8, 32], method: [gptq]}
    - {segments: "*", activation_bits: [8, 32], ranges: [dynamic]}
    - {groups: "*", width: [1.0, 0.75, 0.5]}"""
_KIND_OF_HEAD: Mapping[str, HubKind] = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForImageClassification": "image-classification",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
}
"""How the library's names of networks end."""
_LONGEST, _SHORTEST, _USUAL = 128, 8, 32
"""Tokens of a row at most, at least, and those that costs are for."""

Given = Mapping[str, Union[str, int, "Given", None]]
"""Values by key, or by key of a section."""


class BeginningError(ParedownError):
    """Too little is known of a model to write its config."""


class Beginning(Protocol):
    """What is known of the user's task; `given` holds keys of `section`."""

    @property
    def name(self) -> str:
        """The run's name."""

    @property
    def metric(self) -> str:
        """The quality, or the import path of one."""

    @property
    def section(self) -> type[BaseModel]:
        """The kind of task."""

    @property
    def given(self) -> Given:
        """Values of its keys."""

    @property
    def rules(self) -> str:
        """Rules of the space, in YAML."""

    @property
    def hardware(self) -> Given:
        """Values of the section `hardware`."""


@dataclass(frozen=True, kw_only=True)
class OwnBeginning:
    """A network and data of the user's own: import paths, and paths relative to the config.

    `kwargs` and `data_kwargs` are arguments that the factories need, None where no value is known.
    """

    model: str
    data: str
    kwargs: Mapping[str, None] = field(default_factory=dict)
    data_kwargs: Mapping[str, None] = field(default_factory=dict)
    metric: str = ACCURACY.name
    loss: str | None = None
    weights: str | None = None
    code_folder: str = "."
    section: ClassVar[type[BaseModel]] = CustomTask
    rules: ClassVar[str] = _RULES
    hardware: ClassVar[Given] = {}

    @property
    def name(self) -> str:
        """The last part of the model's module."""
        return self.model.partition(":")[0].rpartition(".")[2].strip("_") or "run"

    @property
    def given(self) -> Given:
        """What is not left at its default."""
        return {
            "code_folder": None if self.code_folder == "." else self.code_folder,
            "model": self.model,
            "kwargs": dict(self.kwargs) or None,
            "weights": self.weights,
            "data": self.data,
            "data_kwargs": dict(self.data_kwargs) or None,
            "metric": self.metric,
            "loss": self.loss,
        }


@dataclass(frozen=True, kw_only=True)
class HubBeginning:
    """A model of the Hugging Face libraries in a folder, and rows for it; paths relative to the config.

    `longest` is the number of tokens that the model takes, None where it takes none.
    """

    model: str
    data: str
    kind: HubKind
    longest: int | None
    section: ClassVar[type[BaseModel]] = HuggingFaceTask
    rules: ClassVar[str] = _RULES_OF_TRANSFORMERS

    @classmethod
    def of_folder(cls, folder: Path, model: str, data: str) -> HubBeginning:
        """Read off the folder's config.json.

        Args:
            model: The folder as the config names it.

        Raises:
            BeginningError: There is none, or it names no network of a kind that a task may have.
        """
        try:
            facts = as_mapping(read_json(folder / "config.json"))
        except (OSError, UnreadableTextError) as error:
            raise BeginningError(
                f"{folder} must hold config.json of a Hugging Face model, got {error}; write it with the "
                "model's save_pretrained"
            ) from error
        named = facts.get("architectures")
        names = [str(each) for each in named] if isinstance(named, list) else []
        kinds = [k for n in names for end, k in _KIND_OF_HEAD.items() if n.endswith(end)]
        if not kinds:
            raise BeginningError(
                f"{folder / 'config.json'}: architectures must name a network that ends in "
                f"{', '.join(_KIND_OF_HEAD)}, got {', '.join(names) or 'none'}; save the model with its "
                "trained head"
            )
        known = (facts.get(key) for key in ("max_position_embeddings", "n_positions"))
        longest = next((n for n in known if isinstance(n, int)), _LONGEST)
        is_of_images = kinds[0] == "image-classification"
        return cls(
            model=model, data=data, kind=kinds[0], longest=None if is_of_images else longest
        )

    @property
    def name(self) -> str:
        """That of the folder."""
        return Path(self.model).name.strip("._") or "run"

    @property
    def metric(self) -> str:
        """The quality that the kind has."""
        return QUALITY_OF_KIND[self.kind].name

    @property
    def given(self) -> Given:
        """What is not left at its default."""
        length = {} if self.longest is None else {"max_length": self._tokens}
        return {"kind": self.kind, "model": self.model, "data": {"dataset": self.data, **length}}

    @property
    def hardware(self) -> Given:
        """Any batch, and any length of texts, as the library's own classes run exported folders."""
        ends = {"from": min(_SHORTEST, self._tokens), "to": self._tokens}
        time: Given = {"time": {**ends, "price_at": min(_USUAL, self._tokens)}}
        return {"axes": {"batch": {"price_at": 1}, **(time if self.longest is not None else {})}}

    @property
    def _tokens(self) -> int:
        return min(_LONGEST, self.longest or _LONGEST)


def commented_config(beginning: Beginning) -> str:
    """YAML of a search of the user's network, with a comment on every key."""
    task = _keys(beginning.section, beginning.given, "  ")
    parts = [
        "# A search by paredown: `paredown inspect` on this file shows the network's layers and knobs,\n"
        "# `paredown search` runs it.",
        f"name: {beginning.name}",
        "\n".join(["task:", f"  name: {_tag(beginning.section)}", *task]),
        _goals(beginning),
        _SPACE + beginning.rules,
    ]
    for name, section in (
        ("hardware", HardwareSection),
        ("search", SearchSection),
        ("tracking", TrackingSection),
        ("output", OutputSection),
    ):
        given = beginning.hardware if name == "hardware" else {}
        title = f"{name}:" if given else f"# {name}:"
        parts.append("\n".join([title, *_defaults(section, given)]))
    return "\n\n".join(parts) + "\n"


def needed_arguments(factory: Callable[..., object]) -> dict[str, None]:
    """Arguments without a default: what only the user can say."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        return {}  # a built-in whose signature is not known
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: None for p in parameters if p.kind in named and p.default is p.empty}


def _tag(section: type[BaseModel]) -> str:
    return str(get_args(section.model_fields["name"].annotation)[0])


def _keys(section: type[BaseModel], given: Given, indent: str) -> Iterator[str]:
    """The keys of a section with the values given, the others as comments."""
    for name, known in section.model_fields.items():
        if name == "name":
            continue
        yield from _comment(known.description or "", indent)
        value, kind = given.get(name), known.annotation
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            yield f"{indent}{name}:"
            yield from _keys(kind, value, f"{indent}  ")
            continue
        if isinstance(value, Mapping):
            yield f"{indent}## null stands for what is not known: set it."
        if value is None:
            name, value = f"# {name}", known.get_default(call_default_factory=True)
        yield f"{indent}{name}: {_yaml(value)}"


def _goals(beginning: Beginning) -> str:
    quality = beginning.metric.rpartition(":")[2]
    own = "" if beginning.metric in QUALITIES else ", direction: maximize"
    return (
        "goals:\n"
        "  # Two or more; at_least and at_most are hard bounds, relative: true refers them to the\n"
        "  # uncompressed network.\n"
        f"  - {{metric: {quality}{own}}}\n"
        "  - {metric: latency_s}\n"
        "  - {metric: onnx_bytes}"
    )


def _defaults(section: type[BaseModel], given: Given) -> Iterator[str]:
    """The keys of a section as comments: what they mean, and what holds if they are left out."""
    for name, known in section.model_fields.items():
        yield from _comment(known.description or "", "  ")
        if name in given:
            yield f"  {name}: {_yaml(given[name])}"
            continue
        if known.is_required():
            continue
        yield f"#   {known.alias or name}: {_yaml(known.get_default(call_default_factory=True))}"


def _comment(text: str, indent: str) -> list[str]:
    """`text` as comment lines, with a second mark that commented keys do not have."""
    lead = f"{indent}## "
    return [lead + line for line in textwrap.wrap(text, _LINE - len(lead))]


def _yaml(value: object) -> str:
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
