"""The commands as a user types them: what they print, and the exit code."""

import io
import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from paredown.hardware_models.device import capabilities, load_device
from paredown.search.cli import app
from paredown.search.comparing import dominated_share
from paredown.search.config import dump_config, load_config
from paredown.search.evaluation import Evaluation, Goal
from paredown.search.inspection import inspection
from paredown.search.journal import Journal
from paredown.search.live import Display
from paredown.search.pareto import Front, front_of
from paredown.search.run_record import JOURNAL, RUNG
from paredown.search.space_rules import build_space
from paredown.spaces.candidate import Candidate

CONFIG = """\
name: toy
task: {name: digits}
goals: [{metric: accuracy}, {metric: latency_s}, {metric: onnx_bytes}]
"""
COMMANDS = (
    "search",
    "front",
    "inspect",
    "export",
    "verify",
    "compare",
    "ui",
    "devices",
    "schema",
)
PLAIN = {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}


def paredown(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env=PLAIN)


def write_config(folder, text=CONFIG):
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def make_run(tmp_path, goals, make_evaluations):
    """A run folder as a search leaves it, with invented evaluations."""

    def make(name="toy", count=30, seed=0, goals=goals, change=lambda evaluation: evaluation):
        folder = tmp_path / "runs" / name
        journal = Journal.open(folder / "study.journal", goals, resume=False)
        for evaluation in make_evaluations(count, seed):
            journal.append(change(evaluation), {}, {})
        journal.close()
        config = load_config(write_config(tmp_path))
        (folder / "config.yaml").write_text(dump_config(config))
        return folder

    return make


def test_help_imports_nothing_heavy():
    code = (
        "import sys, paredown.search.cli as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'mlflow', 'optuna', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_in_a_line_and_by_examples(command):
    listed = paredown("--help")
    assert command in listed.output
    shown = paredown(command, "--help")
    assert shown.exit_code == 0
    assert f"paredown {command}" in shown.output.split("Examples")[1]


@pytest.mark.parametrize("command", ["search", "inspect"])
def test_a_mistake_in_the_config_is_a_sentence_and_exit_code_2(command, tmp_path):
    path = write_config(tmp_path, CONFIG + "search: {seed: -1}\n")
    done = paredown(command, path)
    assert done.exit_code == 2
    assert "search.seed" in done.stderr
    assert "Traceback" not in done.output


def test_a_setting_that_does_not_exist_is_told(tmp_path):
    done = paredown("search", write_config(tmp_path), "--set", "search.sed=3")
    assert done.exit_code == 2
    assert "search.sed" in done.stderr


def test_an_error_that_is_not_the_users_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(path, overrides):
        raise ValueError("ours")

    monkeypatch.setattr("paredown.search.config.load_config", broken)
    done = paredown("search", write_config(tmp_path))
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == "ours"


def test_an_interruption_is_exit_code_130(tmp_path, monkeypatch):
    def interrupted(path, overrides):
        raise KeyboardInterrupt

    monkeypatch.setattr("paredown.search.config.load_config", interrupted)
    assert paredown("search", write_config(tmp_path)).exit_code == 130


def test_front_prints_every_member_beside_the_uncompressed_model(make_run, goals, capsys):
    folder = make_run()
    done = paredown("front", folder)
    members = json.loads(paredown("front", folder, "--json").stdout)["front"]
    assert done.exit_code == 0
    assert len(members) > 3
    assert "uncompressed" in done.stdout
    assert all((member["label"] or member["key"]) in done.stdout for member in members)


def test_the_json_front_holds_candidates_that_give_back_their_keys(make_run):
    told = json.loads(paredown("front", make_run(), "--json").stdout)
    assert [goal["metric"] for goal in told["goals"]] == ["accuracy", "latency_s", "onnx_bytes"]
    for member in told["front"]:
        assert Candidate.from_json(member["candidate"]).key == member["key"]


def test_the_front_is_that_of_the_highest_rung_once_that_is_finished(
    make_run, goals, make_evaluations
):
    promoted = {0, 5, 7}
    folder = make_run(change=lambda e: replace(e, rung=int(e.number in promoted)))
    whole = make_evaluations(30)

    def told():
        found = json.loads(paredown("front", folder, "--json").stdout)["front"]
        return {member["key"] for member in found}

    first = front_of([e for e in whole if e.number not in promoted], goals)
    assert told() == first.keys
    with closing(Journal.open(folder / JOURNAL, goals, resume=True)) as journal:
        journal.set_attribute(RUNG, 1)
    assert told() == front_of([replace(whole[n], rung=1) for n in promoted], goals, rung=1).keys


def test_a_folder_without_a_run_is_exit_code_2(tmp_path):
    done = paredown("front", tmp_path)
    assert done.exit_code == 2
    assert "study.journal" in done.stderr


def test_an_empty_front_is_exit_code_1(make_run):
    folder = make_run(change=lambda e: replace(e, metrics={}, error="lost"))
    assert paredown("front", folder).exit_code == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--pick", "accuracy >= 2, min onnx_bytes"], "the closest is"),
        (["--pick", "max beauty"], "beauty"),
        (["--candidate", "nothing"], "fits none"),
        (["--front", "--candidate", "a"], "got 2"),
        ([], "got 0"),
        (["--mlflow-run", "a"], "--mlflow-run alone"),
    ],
)
def test_an_export_that_cannot_be_is_told_before_anything_is_loaded(make_run, options, told):
    done = paredown("export", make_run(), *options)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_a_run_against_itself_beats_none_of_its_points(make_run):
    folder = make_run()
    done = paredown("compare", folder, folder)
    assert done.exit_code == 0
    rows = [line for line in done.stdout.splitlines() if line.startswith(("A  ", "B  "))]
    assert [row.split()[-1] for row in rows] == ["0%", "0%"]
    assert rows[0].split()[-2] == rows[1].split()[-2]


def test_a_better_run_has_more_volume_and_beats_every_point(make_run):
    def better(e):
        smaller = {**e.metrics, "onnx_bytes": 0.9 * e.metrics["onnx_bytes"]} if e.metrics else {}
        return e if e.label else replace(e, metrics=smaller)

    shown = paredown("compare", make_run("one"), make_run("two", change=better)).stdout
    first, second = (
        line.split() for line in shown.splitlines() if line.startswith(("A  ", "B  "))
    )
    assert float(second[-2]) > float(first[-2])
    assert second[-1] == "0%"
    assert int(first[-1].rstrip("%")) > 50


def test_runs_with_one_goal_in_common_are_not_compared(make_run, goals):
    other = (goals[0], Goal(metric="loss", direction="minimize"))
    done = paredown("compare", make_run("one"), make_run("two", goals=other))
    assert done.exit_code == 2
    assert "goals" in done.stderr


def test_runs_of_different_models_are_compared_with_a_note(make_run):
    def slower(e):
        return replace(
            e, metrics={n: 2 * v if n == "latency_s" else v for n, v in e.metrics.items()}
        )

    done = paredown("compare", make_run("one"), make_run("two", change=slower))
    assert "uncompressed latency differs" in done.stdout


def test_dominated_share_counts_by_hand():
    goals = (
        Goal(metric="accuracy", direction="maximize"),
        Goal(metric="macs", direction="minimize"),
    )

    def front(*points):
        return Front(goals, 0, tuple(_point(*point) for point in points))

    mine = front((0.9, 10.0), (0.8, 5.0), (0.7, 1.0), (0.95, 20.0))
    other = front((0.9, 10.0), (0.85, 5.0), (0.96, 19.0))
    # The first ties, the third is beaten by none, the second and the fourth are beaten.
    assert dominated_share(mine, other) == 0.5
    assert dominated_share(mine, Front(goals)) == 0.0


def test_devices_lists_what_ships_and_shows_one():
    listed = paredown("devices")
    assert listed.exit_code == 0
    shown = paredown("devices", "rpi4-a72-ort")
    assert "rpi4-a72-ort" in listed.stdout
    assert "activation bits" in shown.stdout
    missing = paredown("devices", "toaster")
    assert missing.exit_code == 2
    assert "rpi4-a72-ort" in missing.stderr


def test_the_schema_accepts_the_examples_and_refuses_a_typing_mistake():
    schema = json.loads(paredown("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    root = Path(__file__).resolve().parents[2]
    example = yaml.safe_load((root / "examples" / "digits.yaml").read_text())
    assert validator.is_valid(example)
    assert not validator.is_valid(example | {"goal": []})


def test_verifying_a_folder_that_is_no_bundle_is_told(tmp_path):
    done = paredown("verify", tmp_path)
    assert done.exit_code == 2
    assert "card.json" in done.stderr


def test_inspection_names_every_part_and_all_that_is_left_out(mapped, zoo, tmp_path):
    model_map = mapped(next(name for name in zoo if "resnet" in name))
    offered = capabilities(load_device("x86-avx512-vnni-ort"))
    config = load_config(write_config(tmp_path))
    space = build_space(config.space, {"": model_map}, offered, ["accuracy", "onnx_bytes"])
    shown = _plain(inspection(space, offered))
    for part in (*model_map.layers, *model_map.groups, *model_map.blocks, *model_map.segments):
        assert part.name in shown
    assert all(item.what in shown for item in space.left_out)
    assert f"{len(space.dimensions())} open knobs" in shown
    assert "bytes only on x86-avx512-vnni-ort: 4, 2" in shown


def test_a_log_gets_a_line_every_ten_evaluations_and_each_failure(goals, make_evaluations):
    console = Console(file=io.StringIO(), width=200)
    ticks = iter(range(10_000))
    evaluations = make_evaluations(40)
    with Display(console, clock=lambda: float(next(ticks))) as display:
        display.started(40)
        _tell_all(display, evaluations, goals)
    lines = console.file.getvalue().splitlines()
    failures = [e for e in evaluations if e.is_failed]
    assert failures
    assert sum("evaluations" in line for line in lines) + len(failures) in range(
        4, 5 + len(failures)
    )
    assert all(any(e.key in line and "NaN" in line for line in lines) for e in failures)


def test_the_panel_shows_count_front_and_last_evaluations(goals, make_evaluations):
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system=None)
    now = [0.0]
    evaluations = [e for e in make_evaluations(20) if not e.is_failed]
    with Display(console, clock=lambda: now[0]) as display:
        display.started(2 * len(evaluations))
        now[0] = 60.0
        front = _tell_all(display, evaluations, goals)
        shown = _plain(display._panel())
    assert f"{len(evaluations)}/{2 * len(evaluations)}" in shown
    # Half is done in a minute, so the other half takes one more.
    assert "1:00 left" in shown
    assert f"front {len(front.members)}" in " ".join(shown.split())
    assert all(e.key in shown for e in evaluations[-5:])
    assert "best of" in shown


def _tell_all(display, evaluations, goals):
    front = Front(goals)
    for done, evaluation in enumerate(evaluations, 1):
        front = front.add(evaluation)
        display.told(evaluation, front, 0.1, done)
    return front


def _point(accuracy, macs):
    metrics = {"accuracy": accuracy, "macs": macs}
    return Evaluation(number=0, key="k", candidate=Candidate(), metrics=metrics)


def _plain(renderable):
    console = Console(file=io.StringIO(), width=240, color_system=None)
    console.print(renderable)
    return console.file.getvalue()
