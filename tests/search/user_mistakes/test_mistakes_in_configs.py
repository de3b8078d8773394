"""Mistakes in the YAML, in paths and addresses, and a machine that cannot be written to."""

import re
import subprocess
import sys

import pytest

SETTINGS = {
    "infinite budget": ("search.time_budget_s=.inf", "search.time_budget_s.*finite number, got inf"),
    "NaN bound": ("goals[1].at_most=.nan", r"goals\[1\].at_most.*finite number, got nan"),
    "infinite bound": ("goals[1].at_most=.inf", r"goals\[1\].at_most.*leave the key out"),
    "1e30 evaluations": ("search.evaluations=1.0e+30", "search.evaluations.*at most 1e.15, got 1e.30"),
    "1e30 seconds": ("search.time_budget_s=1.0e+30", "search.time_budget_s.*got 1e.30"),
    "200 digits": (f"search.seed={'9' * 200}", "search.seed.*at most|a number"),
    "true for a count": ("search.evaluations=true", "search.evaluations.*must be a number, got true"),
    "false for a share": ("search.promote_fraction=false", "must be a number, got false"),
    "true for a bound": ("goals[1].at_most=true", r"goals\[1\].at_most.*got true"),
    "true among bits": (
        'space.rules=[{layers: "*", weight_bits: [true, 4]}]', r"rules\[0\].weight_bits.*got true"),
    "nothing but zeros of one bit": (
        'space.rules=[{layers: "*", weight_bits: [1, 2], sparsity: [0.5]}]',
        r"sparsity of layer '.*' must hold 0 beside weight_bits 1, .* got \[0.5\]; add 0"),
    "a method that one bit has not": (
        'space.rules=[{layers: "*", weight_bits: [1], method: [adaround]}]',
        "method of layer '.*' must not be adaround, obq .* got adaround; take it out of method"),
    "infinite share": ('space.rules=[{layers: "*", sparsity: [.inf]}]', "sparsity.*got inf"),
    "true CPUs": ("search.cpus_per_worker=yes", "cpus_per_worker.*got true"),
    "infinite CPUs": ("search.cpus_per_worker=.inf", "cpus_per_worker.*got inf"),
    "half an evaluation": ("search.evaluations=2.5", "search.evaluations.*whole number|integer"),
    "text for a number": ("search.workers=many", "search.workers"),
    "a list for a number": ("search.workers=[2]", "search.workers"),
    "no evaluations": ("search.evaluations=0", "search.evaluations"),
    "negative bound": ("goals[1].at_most=-3", "must be above 0, got -3"),
    "88 % as 88": ("goals[0].at_least=88", "write 0.88 for 88 %"),
    "empty run folder": ("output.folder=''", "output.folder.*must not be empty"),
    "empty code folder": ("task.code_folder=''", "task.code_folder.*must not be empty"),
    "empty weights": ("task.weights=''", "task.weights.*must not be empty"),
    "blank weights": ("task.weights='  '", "task.weights.*must not be empty"),
    "empty device": ("hardware.device=''", "hardware.device.*must not be empty"),
    "empty experiment": ("tracking.experiment=''", "tracking.experiment.*must not be empty"),
    "empty URI": ("tracking.uri=''", "tracking.uri.*must not be empty"),
    "empty model": ("task.model=''", "task.model.*must not be empty"),
    "null character": ('output.folder="a\\0b"', "without null characters"),
    "nobody's home": ("output.folder=~nobody_there/x", "output.folder.*a path that this machine"),
    "a folder as weights": ("task.weights=.", "must be a file that exists"),
    "a file as code folder": ("task.code_folder=toy.yaml", "must be a folder that exists"),
    "text as weights": ("task.weights=toy.yaml", "must be a safetensors file"),
    "unknown device": ("hardware.device=toaster", "toaster"),
    "unknown metric": ("goals[0].metric=acuracy", "did you mean 'accuracy'"),
    "one goal": ("goals=[{metric: accuracy}]", "must be at least two"),
    "a module path as a file": ("task.model=mine.py", "must be package.module:name"),
    "unknown key": ("search.evaluation=3", "did you mean 'evaluations'"),
    "other weights": ("task.kwargs={out: 4}", "task.kwargs.*'out'"),
    "FTP store": ("tracking.uri=ftp://x", "tracking.uri.*one of kind ftp://"),
    "a folder as store": ("tracking.uri=runs/mlruns", "tracking.uri.*got a path"),
    "SQLite without a file": ("tracking.uri=sqlite:///", "must name the file"),
    "a store without driver": ("tracking.uri=mysql+none_such://me:pw@host/db", "tracking.uri.*mysql"),
    "unreachable bytes": ("goals[1].at_most=10", r"onnx_bytes <= 10.00 B; the nearest has \d+"),
    "unreachable share": (
        "goals[1]={metric: onnx_bytes, at_most: 1.0e-6, relative: true}",
        "onnx_bytes <= .* the nearest has"),
}  # fmt: skip
FILES = {
    "no file": (None, "must be a readable text file"),
    "empty": ("", "must be a mapping of sections, got NoneType"),
    "a list": ("- task\n- goals\n", "got list"),
    "a word": ("digits\n", "got str"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\xff", "must be a readable text file"),
    "tabs": ("task:\n\tname: digits\n", "is not valid YAML"),
    "an open bracket": ("goals: [{metric: accuracy}\n", "is not valid YAML"),
    "two documents": ("name: a\n---\nname: b\n", "is not valid YAML"),
    "a repeated key": ("name: a\nname: b\n", r"name \(line 2\): is given twice"),
    "a Python object": ("name: !!python/object/apply:os.getcwd []\n", "is not valid YAML"),
    "a section as text": ("task: digits\ngoals: []\n", "task.*write a mapping"),
    "no goals": ("task: {name: digits}\n", "goals: is required"),
    "no such task": ("task: {name: mnist}\ngoals: []\n", "must be digits|must be 'digits'"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_cannot_be_meant_is_a_sentence(project, refused, case):
    setting, says = SETTINGS[case]
    said = refused(project(), setting)
    assert re.search(says, said, re.DOTALL), said
    assert "pw" not in said  # a password


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_config_is_a_sentence(refused, tmp_path, case):
    content, says = FILES[case]
    path = tmp_path / "toy.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    said = refused(path, plain=True)
    assert re.search(says, said), said


def test_a_run_folder_that_cannot_be_made_is_a_sentence(project):
    """In a process of its own, as a user's: /proc takes no folders, whoever asks."""
    command = [sys.executable, "-m", "paredown.search.cli.commands", "search", str(project())]
    command += ["--set", "output.folder=/proc/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "/proc/nowhere" in done.stderr


@pytest.mark.parametrize("variable", ["PAREDOWN_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_a_cache_that_cannot_be_written_is_a_sentence(
    paredown, project, tmp_path, monkeypatch, variable
):
    for name in ("PAREDOWN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    done = paredown("search", project(), "--set", f"output.folder={tmp_path / 'runs'}")
    assert done.exit_code == 2
    (said,) = done.stderr.splitlines()
    assert "the cache must be a folder" in said
    assert "PAREDOWN_CACHE" in said
