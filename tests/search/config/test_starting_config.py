"""A first config: accepted as it is, with every key of the schema in it and its default true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from paredown.search.config.reading import load_config
from paredown.search.config.schema import Config
from paredown.search.config.schema_task import HubData, HuggingFaceTask
from paredown.search.config.starting_config import (
    BeginningError,
    HubBeginning,
    OwnBeginning,
    commented_config,
    needed_arguments,
)

BEGINNING = OwnBeginning(model="my_project.model:make", data="my_project.data:make_splits")


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
    beginning = OwnBeginning(
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


def model_folder(folder: Path, **facts: object) -> Path:
    (folder / "model").mkdir()
    (folder / "rows").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(facts))
    return folder / "model"


@pytest.mark.parametrize(
    ("head", "facts", "kind", "metric", "tokens"),
    [
        ("BertForSequenceClassification", {}, "text-classification", "accuracy", 128),
        (
            "RobertaForTokenClassification",
            {"max_position_embeddings": 64},
            "token-classification",
            "f1",
            64,
        ),
        ("GPT2LMHeadModel", {"n_positions": 20}, "causal-lm", "perplexity", 20),
        ("LlamaForCausalLM", {}, "causal-lm", "perplexity", 128),
        ("ViTForImageClassification", {}, "image-classification", "accuracy", None),
    ],
)
def test_a_folder_of_the_hugging_face_libraries_says_what_its_model_does(
    tmp_path: Path,
    head: str,
    facts: dict[str, object],
    kind: str,
    metric: str,
    tokens: int | None,
) -> None:
    folder = model_folder(tmp_path, architectures=[head], **facts)
    text = commented_config(HubBeginning.of_folder(folder, "./model", "./rows"))
    config = load(text, tmp_path)
    assert isinstance(config.task, HuggingFaceTask)
    assert (config.name, config.task.kind, config.task.model) == ("model", kind, folder)
    assert config.goals[0].metric == metric
    axes = config.hardware.axes
    assert axes.batch is not None
    assert (axes.time is None) == (tokens is None)
    if tokens is not None:
        assert axes.time is not None
        assert axes.time.longest == config.task.data.max_length == tokens
    without_marks = re.sub(r"^( *)# (?! *#)(?=[ a-z_]+:)", r"\1", text, flags=re.MULTILINE)
    assert without_marks != text
    assert load(without_marks, tmp_path) == config
    keys = set(re.findall(r"^ *(?:# +)?(\w+):", text, re.MULTILINE))
    assert {*HuggingFaceTask.model_fields, *HubData.model_fields} <= keys


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"architectures": ["BertModel"]}, "must name a network that ends in ForSequence"),
        ({}, "got none; save the model with its trained head"),
    ],
)
def test_a_folder_without_a_head_that_is_known_is_refused(
    tmp_path: Path, facts: dict[str, object], said: str
) -> None:
    with pytest.raises(BeginningError, match=said):
        HubBeginning.of_folder(model_folder(tmp_path, **facts), "./model", "./rows")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BeginningError, match=r"must hold config\.json"):
        HubBeginning.of_folder(tmp_path, "./model", "./rows")
