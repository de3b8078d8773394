"""A first config: accepted as it is, with every key of the schema in it and its default true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from paredown.search.config.reading import load_config
from paredown.search.config.schema import Config
from paredown.search.config.starting_config import Beginning, commented_config, needed_arguments

BEGINNING = Beginning(model="my_project.model:make", data="my_project.data:make_splits")


def load(text: str, folder: Path) -> Config:
    path = folder / "first.yaml"
    path.write_text(text)
    return load_config(path)


def test_it_is_a_whole_config_and_named_after_the_models_module(tmp_path: Path) -> None:
    config = load(commented_config(BEGINNING), tmp_path)
    assert config.name == "model"
    assert config.task.metric_name == "accuracy"
    assert [goal.metric for goal in config.goals] == ["accuracy", "latency_s", "onnx_bytes"]


def test_what_stands_in_comments_is_what_holds(tmp_path: Path) -> None:
    text = commented_config(BEGINNING)
    without_marks = re.sub(r"^( *)# (?! *#)(?=[ a-z_]+:)", r"\1", text, flags=re.MULTILINE)
    assert without_marks != text
    assert load(without_marks, tmp_path) == load(text, tmp_path)


@pytest.mark.parametrize("section", ["hardware", "search", "tracking", "output"])
def test_every_key_of_a_section_is_there(section: str) -> None:
    text = commented_config(BEGINNING)
    part = text.split(f"# {section}:\n")[1].split("\n\n")[0]
    keys = re.findall(r"^#   (\w+):", part, re.MULTILINE)
    fields = Config.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    assert keys == [known.alias or name for name, known in fields.items()]


def test_a_metric_of_ones_own_gets_a_direction_and_arguments_without_values_stand_as_null(
    tmp_path: Path,
) -> None:
    beginning = Beginning(
        model="net:make",
        data="net:splits",
        kwargs={"channels": None},
        metric="net:within",
        loss="mse",
    )
    text = commented_config(beginning)
    assert yaml.safe_load(text)["task"]["kwargs"] == {"channels": None}
    config = load(text, tmp_path)
    assert config.goals[0].metric == "within"
    assert config.goals[0].direction == "maximize"


def test_needed_arguments_are_those_without_a_default() -> None:
    def make(channels: int, depth: int = 3, *, seed: int, **more: int) -> None: ...

    assert needed_arguments(make) == {"channels": None, "seed": None}
