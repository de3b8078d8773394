"""Mistakes in a config, each with its YAML path, the rule, the value and the remedy."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

_REMEDIES = {
    "missing": "add it",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "string_type": "write text; put it in quotes if it looks like a number",
    "tuple_type": "write a list: [a, b]",
    "dict_type": "write a mapping: {key: value}",
    "model_type": "write a mapping: {key: value}",
    "model_attributes_type": "write a mapping: {key: value}",
    "path_type": "write a path",
    "union_tag_not_found": "add `name: digits`, `name: cifar10` or `name: custom`",
    "rule_kind": "keep one of the four in each rule",
}


class ConfigError(ParedownError):
    """The config cannot be used; the message lists every mistake in it."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake: where in the YAML (`line` from 1, 0 if unknown) and what to do about it."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        return f"{self.path or 'the file'}{where}: {self.text}"


def config_error(source: str, mistakes: Sequence[Mistake]) -> ConfigError:
    """The error whose message has one line per mistake."""
    count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return ConfigError("\n  ".join([f"{source} has {count}:", *map(str, mistakes)]))


def read_mistakes(
    error: ValidationError, raw: Json, model: type[BaseModel], lines: Mapping[str, int]
) -> list[Mistake]:
    """The mistakes that pydantic found in `raw`; `lines` gives the line of each YAML path."""
    found = []
    for detail in error.errors():
        if detail["type"] == "default_factory_not_called":
            continue  # a default that depends on a mistake, which is listed itself
        path, classes = _walk(detail["loc"], raw, model)
        context = detail.get("ctx", {})
        path = context.get("path", path)
        if detail["type"] == "at_key":
            path = join(path, context["key"])
        if detail["type"] == "union_tag_invalid":
            path = join(path, context["discriminator"].strip("'"))
        text = _explain(detail, path, classes)
        found.append(Mistake(path=path, line=nearest_line(path, lines), text=text))
    return found


def join(path: str, key: str | int) -> str:
    """The YAML path one step further down.

    >>> join(join("space", "rules"), 2)
    'space.rules[2]'
    """
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def nearest_line(path: str, lines: Mapping[str, int]) -> int:
    """Line of `path`, or of what holds it when the file has no such path; 0 if unknown."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, 0)


def _walk(
    location: Sequence[str | int], raw: Json, model: type[BaseModel]
) -> tuple[str, tuple[type[BaseModel], ...]]:
    """YAML path of a pydantic location and the sections that could stand where its last key is.

    Pydantic puts the tags of unions into its locations; the YAML has no such step.
    """
    path = ""
    classes: tuple[type[BaseModel], ...] = (model,)
    parents = classes
    for position, step in enumerate(location):
        is_last = position == len(location) - 1
        if not (is_last or _holds(raw, step)):
            tagged = tuple(c for c in classes if step in _tags(c))
            classes = parents = tagged or classes
            continue
        if is_last and not _holds(raw, step) and any(step in _tags(c) for c in classes):
            break
        path = join(path, step)
        raw = _inner(raw, step)
        if isinstance(step, str):
            parents = classes
            classes = tuple(
                m for c in classes if step in c.model_fields for m in _sections(c, step)
            )
    return path, parents


def _holds(raw: Json, step: str | int) -> bool:
    if isinstance(step, int):
        return isinstance(raw, list | tuple) and step < len(raw)
    return isinstance(raw, dict) and step in raw


def _inner(raw: Json, step: str | int) -> Json:
    """What stands at one step of `raw`, None where there is nothing."""
    if isinstance(step, int):
        return raw[step] if isinstance(raw, list | tuple) and step < len(raw) else None
    return raw.get(step) if isinstance(raw, dict) else None


def _tags(section: type[BaseModel]) -> tuple[str, ...]:
    name = section.model_fields.get("name")
    return (section.__name__, *(get_args(name.annotation) if name else ()))


def _sections(section: type[BaseModel], field: str) -> Iterator[type[BaseModel]]:
    waiting = [section.model_fields[field].annotation]
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        waiting.extend(get_args(annotation))


def _explain(detail: ErrorDetails, path: str, classes: Sequence[type[BaseModel]]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, classes)
    if kind == "union_tag_invalid":
        return f"must be {_either(context['expected_tags'])}, got {_show(context['tag'])}"
    if kind == "missing":
        return f"is required; {_REMEDIES[kind]}{_described(path, classes)}"
    if kind == "at_key":
        return str(context["rule"])
    if kind == "at_path":
        return f"{context['rule']}, got {_show(context['value'])}"
    got = f", got {_show(detail['input'])}"
    if kind == "value_error":
        rule, _, remedy = str(context["error"]).partition("; ")
        shown = "" if ", got " in str(context["error"]) or _is_long(detail["input"]) else got
        return rule + shown + (f"; {remedy}" if remedy else "")
    rule = detail["msg"].replace("Input should be", "must be")
    rule = rule[:1].lower() + rule[1:]
    remedy = _REMEDIES.get(kind, f"change it{_described(path, classes)}")
    return f"{rule}{'' if _is_long(detail['input']) else got}; {remedy}"


def _either(listed: str) -> str:
    """The names of a comma-separated list, the last after an "or"."""
    return " or ".join(listed.rsplit(", ", 1))


def _unknown_key(path: str, classes: Sequence[type[BaseModel]]) -> str:
    key = path.rpartition(".")[2]
    fields = [each for c in classes for each in c.model_fields.items()]
    known = sorted({field.alias or name for name, field in fields})
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    return f"is not a key of the config; {hint}"


def _described(path: str, classes: Sequence[type[BaseModel]]) -> str:
    key = path.rpartition(".")[2].partition("[")[0]
    for section in classes:
        field = section.model_fields.get(key)
        if field is not None and field.description:
            return f" ({field.description.rstrip('.')})"
    return ""


def _is_long(value: object) -> bool:
    return isinstance(value, BaseModel) or len(_show(value)) > 120


def _show(value: object) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        return repr(value)
