"""Reads the one YAML file of a search into a checked `Config`; imports nothing heavy."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from paredown.search.config.mistakes import (
    ConfigError,
    Mistake,
    config_error,
    join,
    nearest_line,
    read_mistakes,
)
from paredown.search.config.schema import Config
from paredown.spaces.system.bounded import (
    YAML_BYTES,
    UnreadableTextError,
    compose_yaml,
    parse_yaml,
    read_text,
)
from paredown.spaces.system.json_values import Json

__all__ = [
    "Config",
    "ConfigError",
    "card_config",
    "dump_config",
    "filled",
    "json_schema",
    "load_config",
    "remarks",
    "tracking_uri",
]

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_KEPT = re.compile(r"tracking\.uri|(task\.(data_)?kwargs|space\.architectures\..+\.kwargs)[.\[].*")
"""What may hold a secret, and so keeps its ${NAME} in everything that is written."""


def load_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Config:
    """The config in the YAML file at `path`, with every default filled in.

    Relative paths in it are taken from the file's folder (`output.folder` from the current one),
    and ${NAME} in any text is replaced from the environment. `tracking.uri` and the arguments of
    the user's factories keep it until they are used (`tracking_uri`, `filled`): they may hold a
    password, and configs are written and handed on.

    Args:
        overrides: Settings that replace what the file says, such as "search.seed=3" or
            "space.rules[0].weight_bits=[4, 8]"; the values are YAML.
        environment: Variables for ${NAME}; the process's own by default.

    Raises:
        ConfigError: The file is missing or no YAML, or the config holds mistakes, all listed.
    """
    path = Path(path)
    raw, lines = _read_yaml(path)
    for override in overrides:
        _forget_lines(lines, _set(raw, override))
    source = f"{path.name} with --set" if overrides else path.name
    mistakes: list[Mistake] = []
    variables = os.environ if environment is None else environment
    filled_in = _expand(raw, "", variables, lines, mistakes)
    if mistakes:
        raise config_error(source, mistakes)
    try:
        return Config.model_validate(filled_in, context={"folder": path.parent.resolve()})
    except ValidationError as error:
        raise config_error(source, read_mistakes(error, filled_in, Config, lines)) from None


def tracking_uri(config: Config) -> str | None:
    """`tracking.uri` with ${NAME} replaced from the environment: to connect with, not to write."""
    uri = config.tracking.uri
    return uri and _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), uri)


def filled(arguments: Mapping[str, Json]) -> dict[str, Json]:
    """A factory's arguments with ${NAME} replaced from the environment: to call with, not to write.

    Raises:
        ConfigError: The environment has no such variable any more.
    """
    mistakes: list[Mistake] = []
    found = {
        name: _expand(value, f"arguments.{name}", os.environ, {}, mistakes)
        for name, value in arguments.items()
    }
    if mistakes:
        raise config_error("the config", mistakes)
    return found


def dump_config(config: Config) -> str:
    """YAML that `load_config` reads back as an equal config, from any folder."""
    plain = config.model_dump(mode="json", by_alias=True)
    rules = plain["space"]["rules"]
    plain["space"]["rules"] = [{k: v for k, v in r.items() if v is not None} for r in rules]
    return _yaml({"name": plain.pop("name"), **plain})


def card_config(config: Config) -> str:
    """The part of `dump_config` that a bundle's card carries: what its task is loaded from.

    Bundles are handed on, so where a run was tracked and written is left out.
    """
    plain = config.model_dump(mode="json", include={"name", "task", "hardware", "goals"})
    architectures = config.model_dump(mode="json", include={"space": {"architectures"}})
    return _yaml({"name": plain.pop("name"), **plain, **architectures})


def _yaml(plain: Mapping[str, Json]) -> str:
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=99)


def json_schema() -> dict[str, Json]:
    """JSON Schema of the config, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "paredown config",
    }


def remarks(config: Config) -> tuple[str, ...]:
    """What is allowed but probably not meant, one sentence each."""
    found = []
    costs = [goal.metric for goal in config.goals if goal.is_cost]
    if not costs:
        found.append("goals: none is a cost, so nothing asks for a smaller model; add onnx_bytes")
    if len(costs) == len(config.goals):
        found.append("goals: none is a quality, so the worst model wins; add accuracy or loss")
    search = config.search
    if search.batch < search.workers:
        found.append(
            f"search.batch is {search.batch} and search.workers is {search.workers}: "
            f"{search.workers - search.batch} of them would wait"
        )
    if search.engine == "local" and search.ray_address is not None:
        found.append("search.ray_address has no effect with search.engine: local")
    return tuple(found)


def _read_yaml(path: Path) -> tuple[dict[str, Json], dict[str, int]]:
    try:
        text = read_text(path, YAML_BYTES)
    except (OSError, UnreadableTextError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"the config must be a readable text file, got {path}: {reason}; give the path of a "
            "YAML file, such as examples/digits.yaml"
        ) from None
    try:
        node, raw = compose_yaml(text)
    except UnreadableTextError as error:
        raise ConfigError(f"{path.name} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path.name} must be a mapping of sections, got {type(raw).__name__}; "
            "start with `task: {name: digits}`"
        )
    lines: dict[str, int] = {}
    repeated: list[Mistake] = []
    _read_lines(node, "", lines, repeated)
    if repeated:
        raise config_error(path.name, repeated)
    return raw, lines


def _read_lines(
    node: yaml.Node | None, path: str, lines: dict[str, int], repeated: list[Mistake]
) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            step = join(path, str(key.value))
            line = key.start_mark.line + 1
            if key.value in seen:
                text = "is given twice; keep one"
                repeated.append(Mistake(path=step, line=line, text=text))
            seen.add(key.value)
            lines[step] = line
            _read_lines(value, step, lines, repeated)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            step = join(path, index)
            lines[step] = value.start_mark.line + 1
            _read_lines(value, step, lines, repeated)


def _set(raw: dict[str, Json], override: str) -> str:
    """Replaces one value of `raw`; the YAML path of it."""
    path, equals, text = override.partition("=")
    steps = re.sub(r"\[(\d+)\]", r".\1", path.strip()).split(".")
    if not equals or "" in steps:
        raise ConfigError(f"--set must be a.b=value, got {override!r}; write search.seed=3")
    try:
        value = parse_yaml(text)
    except UnreadableTextError as error:
        raise ConfigError(f"the value of --set {override!r} is not valid YAML: {error}") from None
    inside: Json = raw
    for position, step in enumerate(steps[:-1]):
        inside = _enter(inside, step, override)
        if inside is None:
            done = ".".join(steps[: position + 1])
            raise ConfigError(f"--set {override!r}: {done} is empty in the file; set all of it")
    _enter(inside, steps[-1], override)
    if isinstance(inside, list):
        inside[int(steps[-1])] = value
    elif isinstance(inside, dict):
        inside[steps[-1]] = value
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(steps))


def _forget_lines(lines: dict[str, int], path: str) -> None:
    """No line of the file stands for a value that --set gave, nor for anything inside it."""
    for inner in [known for known in lines if known.startswith((f"{path}.", f"{path}["))]:
        del lines[inner]
    lines[path] = 0


def _enter(inside: Json, step: str, override: str) -> Json:
    if isinstance(inside, dict):
        return inside.setdefault(step, {})
    if isinstance(inside, list) and step.isdigit() and int(step) < len(inside):
        return inside[int(step)]
    size = f"a list of {len(inside)}" if isinstance(inside, list) else f"the value {inside!r}"
    raise ConfigError(
        f"--set {override!r}: {step!r} must name a key or an index that exists, but stands in "
        f"{size}; set the whole of it instead"
    )


def _expand(
    value: Json,
    path: str,
    variables: Mapping[str, str],
    lines: Mapping[str, int],
    mistakes: list[Mistake],
) -> Json:
    if isinstance(value, dict):
        return {
            k: _expand(v, join(path, str(k)), variables, lines, mistakes) for k, v in value.items()
        }
    if isinstance(value, list):
        return [_expand(v, join(path, i), variables, lines, mistakes) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    is_kept = _KEPT.fullmatch(path) is not None
    known = {*variables, *os.environ} if is_kept else variables
    for name in _VARIABLE.findall(value):
        if name not in known:
            text = f"names the environment variable {name}, which is not set; export it first"
            line = nearest_line(path, lines)
            mistakes.append(Mistake(path=path, line=line, text=text))
    if is_kept:
        return value
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), value)
