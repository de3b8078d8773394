"""A model of a finished run trained further: its bundle holds what was trained."""

from dataclasses import replace

import pytest

from paredown.compressors.bundle.loading import load_model
from paredown.compressors.training.kept import TrainedModels
from paredown.search.bundles.recovering import recover
from paredown.search.config.reading import load_config
from paredown.search.running.whole_search import run
from paredown.search.study.run_record import TRAINED, read_run

CONFIG = """\
name: small
task: {name: digits}
space:
  rules: [{layers: "*", weight_bits: [1, 8], method: [rtn]}, {groups: "*", width: [1.0, 0.5]}]
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 8, rung_images: 60}
recovery:
  recipe: {batch: 32}
  rungs: [{steps: 4, keep: 2}]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The record of a finished run with recovery, and its config."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(CONFIG)
    config = load_config(folder / "config.yaml", [f"output.folder={folder}"])
    result = run(config)
    assert [check.mismatches for check in result.bundles] == [()] * len(result.front.members)
    return read_run(result.folder), config


def test_training_goes_on_from_the_runs_own_and_ends_in_a_bundle(finished, tmp_path):
    record, config = finished
    chosen = next(e for e in record.evaluations if e.trained is not None)
    found = recover(record, chosen, config, steps=6, out=tmp_path / "out")
    assert found.before.metrics["loss"] == pytest.approx(chosen.metrics["loss"], rel=1e-6)
    kept = TrainedModels(record.folder / TRAINED)
    assert kept.put(load_model(found.bundle)) == found.after.trained
    assert [point[0] for point in found.after.curve][-1] == 6
    assert found.after.curve[0][2] == pytest.approx(min(p[2] for p in chosen.curve), rel=1e-6)


def test_a_recipe_of_ones_own_replaces_the_runs(finished, tmp_path):
    record, config = finished
    chosen = next(e for e in record.evaluations if e.trained is not None)
    recipe = config.recovery.recipe.model_copy(update={"quantizer": "frozen"})
    own = config.model_copy(
        update={"recovery": config.recovery.model_copy(update={"recipe": recipe})}
    )
    untrained = replace(chosen, trained=None)
    found = recover(record, untrained, own, steps=3, out=tmp_path / "out")
    assert "frozen" in found.after.rung.recipe.trainer
