"""The command that trains a model of a run further."""

from pathlib import Path

import pytest

from paredown.search.study.run_record import read_run

CONFIG = """\
name: small
task: {name: digits}
space:
  rules: [{layers: "*", weight_bits: [2, 8], method: [rtn]}]
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 4, rung_images: 2000}
recovery: {rungs: [{steps: 2, keep: 1}]}
"""


@pytest.mark.parametrize("options", [[], ["--pick", "max accuracy", "--candidate", "a"]])
def test_one_model_is_asked_for(paredown, make_run, options):
    done = paredown("recover", make_run(), *options)
    assert done.exit_code == 2
    assert "one of --pick and --candidate" in done.stderr
    assert "Traceback" not in done.output


def test_a_model_of_a_run_is_trained_written_and_verified(paredown, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    assert paredown("search", "config.yaml").exit_code == 0
    before = (tmp_path / "runs/small/study.journal").read_bytes()
    options = ["--pick", "min onnx_bytes", "--steps", 20, "--set", "recovery.recipe.batch=32"]
    done = paredown("recover", "runs/small", *map(str, options))
    assert done.exit_code == 0, done.output
    assert "accuracy on the search split" in done.stdout
    key = read_run(tmp_path / "runs/small").picked("min onnx_bytes").key
    assert (tmp_path / "runs/small/recovered" / key / "model.onnx").is_file()
    assert (tmp_path / "runs/small/study.journal").read_bytes() == before, "the run stays as it is"
    bundle = next(p.parent for p in Path("runs/small/bundles").glob(f"{key}/card.json"))
    refused = paredown("recover", bundle, "--pick", "min onnx_bytes")
    assert refused.exit_code == 2
    assert "--pick and --candidate are for a run" in refused.stderr
    again = paredown("recover", bundle, "--steps", "4", "--out", "mine")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "mine" / key / "card.json").is_file()


def test_a_config_is_for_a_bundle(paredown, make_run):
    done = paredown("recover", make_run(), "--candidate", "a", "--trust")
    assert done.exit_code == 2
    assert "are for a bundle" in done.stderr
