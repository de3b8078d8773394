"""A card's task is loaded; code that only the card names is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.search.bundles.task import NoTaskError, TaskSource
from paredown.search.config.reading import card_config, load_config
from paredown.search.tasks.splits import DataError

DIGITS = "task: {name: digits}\ngoals: [{metric: accuracy}, {metric: onnx_bytes}]\n"


def test_a_built_in_task_needs_nobodys_word(tmp_path: Path) -> None:
    assert TaskSource().load(tmp_path / "bundle", DIGITS).name == "digits"


def test_code_that_a_card_alone_names_runs_only_on_the_users_word(
    tmp_path: Path, own_code: Callable[..., str]
) -> None:
    card = own_code("received")
    bundle = tmp_path / "run" / "bundles" / "key"
    bundle.mkdir(parents=True)
    ran = tmp_path / "code" / "received.ran"

    with pytest.raises(NoTaskError, match=r"--config FILE, or --trust"):
        TaskSource().load(bundle, card)
    (tmp_path / "run" / "config.yaml").write_text(DIGITS)
    with pytest.raises(NoTaskError, match=r"received:data"):
        TaskSource().load(bundle, card)
    assert not ran.exists()
    TaskSource(trusts_cards=True).load(bundle, card)
    assert ran.exists()


def test_a_card_alone_sends_nobody_to_a_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def hub(source: object, part: str) -> None:
        asked.append(source)
        raise DataError("no such data set")

    monkeypatch.setattr("paredown.search.tasks.cifar10.hub_rows", hub)
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    card = (
        f"task: {{name: cifar10, dataset: someone/sends-it-home, weights: {weights}}}\n"
        "goals: [{metric: accuracy}, {metric: onnx_bytes}]\n"
    )

    with pytest.raises(NoTaskError, match=r"hub \(someone/sends-it-home\).* --trust"):
        TaskSource().load(tmp_path / "bundle", card)
    assert asked == []
    with pytest.raises(NoTaskError, match="no such data set"):
        TaskSource(trusts_cards=True).load(tmp_path / "bundle", card)
    assert asked == ["someone/sends-it-home"]


@pytest.mark.parametrize(
    "config_yaml",
    [
        "a0: &a0 [x, x]\n"
        + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
        "task: " + "[" * 5000,
        "search: {workers: " + "9" * 6000 + "}",
        "\0",
        DIGITS + "hardware: {threads: 1000000}\n",
    ],
)
def test_a_config_on_a_card_that_would_not_end_is_no_task(
    tmp_path: Path, config_yaml: str
) -> None:
    with pytest.raises(NoTaskError, match="cannot be loaded here"):
        TaskSource().load(tmp_path / "bundle", config_yaml)


def test_code_in_the_config_of_the_run_around_a_bundle_may_run(
    tmp_path: Path, own_code: Callable[..., str]
) -> None:
    config = tmp_path / "run" / "config.yaml"
    bundle = tmp_path / "run" / "bundles" / "key"
    bundle.mkdir(parents=True)
    config.write_text(own_code("ours") + "search: {seed: 3}\n")

    TaskSource().load(bundle, card_config(load_config(config)))

    assert (tmp_path / "code" / "ours.ran").exists()


def test_the_users_config_stands_for_that_of_the_card(
    tmp_path: Path, own_code: Callable[..., str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(DIGITS)

    task = TaskSource(config=load_config(own)).load(tmp_path, own_code("passed_over"))

    assert task.name == "digits"
    assert not (tmp_path / "code" / "passed_over.ran").exists()


@pytest.mark.parametrize(
    "task",
    [
        "{name: cifar10, weights: /nowhere/resnet20.safetensors}",
        "{name: digits, seed: '${PATH}'}",
        "{name: cifar11}",
    ],
)
def test_a_card_that_this_machine_cannot_follow_is_told_with_the_remedy(
    tmp_path: Path, task: str
) -> None:
    card = f"task: {task}\ngoals: [{{metric: accuracy}}, {{metric: onnx_bytes}}]\n"

    with pytest.raises(NoTaskError, match=r"cannot be loaded here .*--config FILE") as refusal:
        TaskSource().load(tmp_path, card)

    # No variable of this machine is filled in.
    assert "/bin" not in str(refusal.value)


def test_a_secret_among_the_arguments_reaches_vouched_code_and_stands_on_no_card(
    tmp_path: Path, own_code: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = own_code("keeper").replace("}\n", ", data_kwargs: {token: '${PAREDOWN_SECRET}'}}\n", 1)
    code = tmp_path / "code" / "keeper.py"
    kept = 'Path(__file__).with_suffix(".token").write_text(token)'
    code.write_text(code.read_text().replace("def data():\n", f"def data(token):\n    {kept}\n"))
    config = tmp_path / "run" / "config.yaml"
    bundle = tmp_path / "run" / "bundles" / "key"
    bundle.mkdir(parents=True)
    config.write_text(text)
    monkeypatch.setenv("PAREDOWN_SECRET", "hunter2")
    card = card_config(load_config(config))
    assert "hunter2" not in card

    TaskSource().load(bundle, card)

    assert code.with_suffix(".token").read_text() == "hunter2"
    monkeypatch.delenv("PAREDOWN_SECRET")
    with pytest.raises(NoTaskError, match=r"variable PAREDOWN_SECRET, which is not set"):
        TaskSource().load(bundle, card)
