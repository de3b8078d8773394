"""The command that compares samplers and parts of a space."""

import json
from pathlib import Path

from paredown.search.cli.bench import _Lines

CONFIG = """\
name: small
task: {name: digits}
space:
  rules: [{layers: "*", weight_bits: [2, 4, 8], method: [rtn]}]
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, workers: 1, evaluations: 6, rung_images: 100}
"""


def test_a_bench_prints_its_table_and_goes_on_for_nothing(paredown, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    options = ["--arms", "random,uniforms", "--seeds", 1, "--evaluations", "5,6", "-q"]
    done = paredown("bench", "config.yaml", *options)
    assert done.exit_code == 0, done.output
    assert "random" in done.stdout
    assert "at 5" in done.stdout
    lines = (tmp_path / "runs/small-bench/outcomes.jsonl").read_text().splitlines()
    again = paredown("bench", "config.yaml", *options)
    assert again.stdout == done.stdout
    assert "0 new" in paredown("bench", "config.yaml", *options[:-1]).stdout
    assert (tmp_path / "runs/small-bench/outcomes.jsonl").read_text().splitlines() == lines


def test_verbose_has_a_line_for_each_candidate_and_interrupts_end_as_such(
    paredown, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    options = ["--arms", "uniforms,random", "--seeds", 1, "--evaluations", 6]
    done = paredown("bench", "config.yaml", *options, "-v")
    file = tmp_path / "runs/small-bench/outcomes.jsonl"
    keys = [json.loads(line)["key"] for line in file.read_text().splitlines()]
    # The references are scored before the runs, on which it reports.
    for key in keys[3:]:
        assert sum(line.startswith(f"{key}: accuracy") for line in done.stdout.splitlines()) == 1

    def _interrupted(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(_Lines, "finished", lambda self, run: _interrupted(run))
    ended = paredown("bench", "config.yaml", *options)
    assert ended.exit_code == 130


def test_mistakes_are_a_sentence(paredown, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    for options, said in (
        (["--evaluations", "50,no"], "--evaluations must be"),
        (["--arms", "tpe,annealing"], "annealing"),
    ):
        done = paredown("bench", "config.yaml", *options)
        assert done.exit_code == 2
        assert said in done.stderr
        assert "Traceback" not in done.output
