"""A first config for a network of the user's own: what must be said, and every default as a comment.

Names, defaults and descriptions come from the config's own schema, so the file is never out of date.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel

from paredown.search.config.qualities import ACCURACY, TASK_QUALITIES
from paredown.search.config.schema import OutputSection, SearchSection, TrackingSection
from paredown.search.config.schema_hardware import HardwareSection
from paredown.search.config.schema_task import CustomTask

_LINE = 96
_RULES = """\
space:
  # What may be chosen where. A later rule overrides an earlier one, and `paredown inspect` prints
  # the names of layers, segments, groups and blocks.
  rules:
    - {layers: "*", weight_bits: [2, 3, 4, 6, 8, 32], method: [gptq]}
    - {segments: "*", activation_bits: [8, 32]}
    - {groups: "*", width: [1.0, 0.75, 0.5]}
    - {blocks: "*", drop: true}
"""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What is known of the user's task: import paths, and paths relative to the config.

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

    @property
    def name(self) -> str:
        """The run's name: the last part of the model's module."""
        return self.model.partition(":")[0].rpartition(".")[2].strip("_") or "run"


def commented_config(beginning: Beginning) -> str:
    """YAML of a search of the user's own network, with a comment on every key."""
    parts = [
        "# A search by paredown: `paredown inspect` on this file shows the network's layers and knobs,\n"
        "# `paredown search` runs it.",
        f"name: {beginning.name}",
        "\n".join(["task:", "  name: custom", *_task_lines(beginning)]),
        _goals(beginning),
        _RULES.rstrip("\n"),
    ]
    for name, section in (
        ("hardware", HardwareSection),
        ("search", SearchSection),
        ("tracking", TrackingSection),
        ("output", OutputSection),
    ):
        parts.append("\n".join([f"# {name}:", *_defaults(section)]))
    return "\n\n".join(parts) + "\n"


def needed_arguments(factory: Callable[..., object]) -> dict[str, None]:
    """Arguments without a default: what only the user can say."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        return {}  # a built-in whose signature is not known
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: None for p in parameters if p.kind in named and p.default is p.empty}


def _task_lines(beginning: Beginning) -> Iterator[str]:
    given: dict[str, str | Mapping[str, None] | None] = {
        "code_folder": None if beginning.code_folder == "." else beginning.code_folder,
        "model": beginning.model,
        "kwargs": dict(beginning.kwargs) or None,
        "weights": beginning.weights,
        "data": beginning.data,
        "data_kwargs": dict(beginning.data_kwargs) or None,
        "metric": beginning.metric,
        "loss": beginning.loss,
    }
    for name, known in CustomTask.model_fields.items():
        if name == "name":
            continue
        yield from _comment(known.description or "", "  ")
        if isinstance(given.get(name), dict):
            yield "  ## null stands for what is not known: set it."
        if given.get(name) is None:
            yield f"  # {name}: {_yaml(known.get_default(call_default_factory=True))}"
        else:
            yield f"  {name}: {_yaml(given[name])}"


def _goals(beginning: Beginning) -> str:
    quality = beginning.metric.rpartition(":")[2]
    own = "" if beginning.metric in TASK_QUALITIES else ", direction: maximize"
    return (
        "goals:\n"
        "  # Two or more; at_least and at_most are hard bounds, relative: true refers them to the\n"
        "  # uncompressed network.\n"
        f"  - {{metric: {quality}{own}}}\n"
        "  - {metric: latency_s}\n"
        "  - {metric: onnx_bytes}"
    )


def _defaults(section: type[BaseModel]) -> Iterator[str]:
    """The keys of a section as comments: what they mean, and what holds if they are left out."""
    for name, known in section.model_fields.items():
        yield from _comment(known.description or "", "  ")
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
