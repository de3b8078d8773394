"""The config: what is accepted, what is filled in, and what is written of it."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from paredown.search.config.reading import (
    Config,
    ConfigError,
    card_config,
    dump_config,
    filled,
    json_schema,
    load_config,
    remarks,
    tracking_uri,
)

ROOT = Path(__file__).resolve().parents[3]
MINIMAL = """
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
"""


@pytest.fixture
def data_folder(tmp_path):
    """What the examples name, as empty files: only their presence is checked."""
    for name in (
        "weights/resnet20_cifar10_jpeg.safetensors",
        "weights/resnet56_cifar10_jpeg.safetensors",
        "cifar10_jpeg/train.parquet",
        "cifar10_jpeg/test.parquet",
    ):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


def test_the_smallest_config_needs_a_task_and_two_goals(write_config):
    config = load_config(write_config(MINIMAL))
    assert config.name == "digits"
    assert [goal.direction for goal in config.goals] == ["maximize", "minimize"]
    assert config.search.evaluations == 60
    assert config.space.rules


def test_importing_the_config_imports_nothing_heavy():
    code = (
        "import sys, paredown.search.config.reading as c; "
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'numpy', 'onnx', 'sklearn', 'datasets'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "digits.yaml",
        "cifar10_resnet20.yaml",
        "cifar10_packed.yaml",
        "cifar10_recovery.yaml",
        "cifar10_architectures.yaml",
        "own_model/config.yaml",
        "transformer/config.yaml",
    ],
)
def test_every_example_loads_and_survives_a_round_trip(name, data_folder, write_config):
    environment = {"PAREDOWN_DATA": str(data_folder)}
    config = load_config(ROOT / "examples" / name, environment=environment)
    assert load_config(write_config(dump_config(config))) == config
    jsonschema.validate(yaml.safe_load(dump_config(config)), json_schema())
    assert not remarks(config)


def test_a_null_in_the_users_own_arguments_survives_the_round_trip(write_config, tmp_path):
    text = (
        "task: {name: custom, model: a:b, data: c:d, kwargs: {x: null, y: [1, {z: null}]}}\n"
        "goals: [{metric: loss}, {metric: macs}]"
    )
    config = load_config(write_config(text))
    assert load_config(write_config(dump_config(config))) == config
    assert config.task.code_folder == tmp_path.resolve()


def test_json_schema_refuses_what_the_config_refuses():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {**yaml.safe_load(MINIMAL), "space": {"rules": [{"layers": "*", "weight_bits": [4]}]}}
    jsonschema.validate(good, schema)
    for broken in ({**good, "serch": {}}, {**good, "goals": [{"metric": 3}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_relative_paths_start_at_the_folder_of_the_file(write_config, tmp_path, monkeypatch):
    (tmp_path / "w.safetensors").touch()
    monkeypatch.chdir("/")
    text = "task: {name: cifar10, weights: w.safetensors}\ngoals: [{metric: loss}, {metric: macs}]"
    config = load_config(write_config(text))
    assert config.task.weights == (tmp_path / "w.safetensors").resolve()
    assert config.output.folder == Path("/runs")


def test_environment_variables_are_filled_in_and_missing_ones_named(write_config):
    path = write_config(f"{MINIMAL}tracking: {{experiment: 'on ${{HOST}} alone'}}\n")
    found = load_config(path, environment={"HOST": "box"})
    assert found.tracking.experiment == "on box alone"
    with pytest.raises(ConfigError, match=r"tracking.experiment \(line 4\).*HOST"):
        load_config(path, environment={})


def test_overrides_replace_values_and_list_items(write_config):
    path = write_config(f"{MINIMAL}space: {{rules: [{{layers: a, weight_bits: [4]}}]}}\n")
    overrides = ["search.seed=3", "space.rules[0].weight_bits=[2, 8]", "goals.1.metric=macs"]
    config = load_config(path, overrides)
    assert config.search.seed == 3
    assert config.space.rules[0].weight_bits == (2, 8)
    assert config.goals[1].metric == "macs"


def test_remarks_name_what_is_allowed_but_odd(write_config):
    one_sided = write_config("task: {name: digits}\ngoals: [{metric: macs}, {metric: bops}]")
    assert "none is a quality" in remarks(load_config(one_sided))[0]
    assert "would wait" in remarks(load_config(write_config(MINIMAL), ["search.workers=8"]))[0]


def test_the_config_is_frozen(write_config):
    config = load_config(write_config(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        config.search.seed = 1


def test_the_reference_mentions_every_key():
    text = (ROOT / "docs" / "config.md").read_text()
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    keys = {(k, v.get("description", "")) for s in sections for k, v in s["properties"].items()}
    assert not [key for key, _ in keys if f"`{key}`" not in text and key != "name"]
    assert not [key for key, meaning in keys if meaning not in text]
    assert json.dumps(Config.model_fields["goals"].description).strip('"') in text


def test_a_password_for_tracking_goes_to_the_store_and_into_no_file(tmp_path, monkeypatch):
    path = tmp_path / "tracked.yaml"
    path.write_text(
        "task: {name: digits}\n"
        "goals: [{metric: accuracy}, {metric: onnx_bytes}]\n"
        "tracking: {uri: 'postgresql://me:${MLFLOW_SECRET}@host/db'}\n"
        "output: {folder: /private/runs}\n"
    )
    with pytest.raises(ConfigError, match="MLFLOW_SECRET, which is not set"):
        load_config(path)
    monkeypatch.setenv("MLFLOW_SECRET", "hunter2")
    config = load_config(path)
    assert tracking_uri(config) == "postgresql://me:hunter2@host/db"
    assert "hunter2" not in dump_config(config)
    written = tmp_path / "written.yaml"
    written.write_text(dump_config(config))
    assert load_config(written) == config

    card = card_config(config)
    assert "postgresql" not in card
    assert "/private" not in card
    written.write_text(card)
    again = load_config(written)
    assert (again.task, again.hardware, again.goals) == (
        config.task,
        config.hardware,
        config.goals,
    )
    assert again.space.architectures == config.space.architectures
    assert tracking_uri(again) is None


ARGUMENTS = """\
task:
  name: custom
  model: mine:make
  kwargs: {token: '${PAREDOWN_SECRET}', size: 3}
  data: mine:splits
  data_kwargs: {store: {uri: ['s3://me:${PAREDOWN_SECRET}@host']}}
space: {architectures: {small.one: {kwargs: {token: '${PAREDOWN_SECRET}'}}}}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
"""


def test_a_secret_for_the_users_factories_reaches_them_and_no_file(
    write_config, tmp_path, monkeypatch, mistakes
):
    path = write_config(ARGUMENTS)
    monkeypatch.delenv("PAREDOWN_SECRET", raising=False)
    message = mistakes(path)
    assert "3 mistakes" in message
    assert "task.data_kwargs.store.uri[0] (line 6): names the environment" in message
    monkeypatch.setenv("PAREDOWN_SECRET", "hunter2")
    config = load_config(path)
    (small,) = config.space.architectures.values()
    assert filled(config.task.kwargs) == {"token": "hunter2", "size": 3}
    assert filled(config.task.data_kwargs) == {"store": {"uri": ["s3://me:hunter2@host"]}}
    assert filled(small.kwargs) == {"token": "hunter2"}
    for text in (dump_config(config), card_config(config)):
        assert "hunter2" not in text
        written = tmp_path / "written.yaml"
        written.write_text(text)
        assert load_config(written).task == config.task
        assert load_config(written).space.architectures == config.space.architectures


def test_a_variable_that_has_gone_is_told_where_it_is_used(monkeypatch):
    monkeypatch.delenv("PAREDOWN_SECRET", raising=False)
    with pytest.raises(ConfigError, match=r"arguments\.tracking\.uri: names .*PAREDOWN_SECRET"):
        filled({"tracking": {"uri": "${PAREDOWN_SECRET}"}})


ALIASES = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ALIASES, "aliases"),
        ("task: " + "[" * 5000, "64 levels"),
        ("task: {name: digits}\nsearch: {seed: " + "9" * 6000 + "}", "40 characters, .* in line 2"),
        ("task: {name: digits, seed: !!int x}", "does not fit"),
        ("x: " + "a" * 2**20, "1,048,576 bytes"),
    ],
)  # fmt: skip
def test_a_config_that_would_not_end_is_refused(write_config, text, reason):
    with pytest.raises(ConfigError, match=reason):
        load_config(write_config(text))


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 6000, "&a [*a]"])
def test_a_setting_that_would_not_end_is_refused(write_config, value):
    path = write_config("task: {name: digits}\ngoals: [{metric: accuracy}]\n")
    with pytest.raises(ConfigError, match="the value of --set"):
        load_config(path, [f"search.seed={value}"])


def test_aliases_and_merge_keys_are_read_as_what_they_stand_for(write_config):
    text = """\
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
space:
  rules:
    - &first {layers: conv1, weight_bits: [4, 8]}
    - {<<: *first, layers: linear}
"""
    first, second = load_config(write_config(text)).space.rules
    assert first.weight_bits == second.weight_bits == (4, 8)
    assert first.layers != second.layers
