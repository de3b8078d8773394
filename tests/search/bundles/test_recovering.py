"""A model of a finished run trained further: its bundle holds what was trained."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from paredown.compressors.bundle.loading import BundleError, load_model
from paredown.compressors.training.kept import TrainedModels
from paredown.compressors.training.trainable import Trainable
from paredown.compressors.training.trainer import TrainingError
from paredown.search.bundles.recovering import (
    config_of_bundle,
    place_beside,
    recover,
    recover_bundle,
    write_back,
)
from paredown.search.bundles.task import TaskSource
from paredown.search.bundles.verifying import verify_each
from paredown.search.config.reading import load_config
from paredown.search.running.whole_search import run
from paredown.search.study.run_record import TRAINED, read_run
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

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


@pytest.fixture
def bundle(finished):
    """The folder of a compressed model of the run."""
    record, _ = finished
    member = next(m for m in record.front.members if m.kind == "search")
    return record.folder / "bundles" / member.key


def test_a_bundle_is_trained_like_a_model_of_its_run(finished, bundle, tmp_path):
    record, config = finished
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    found = recover_bundle(bundle, config, steps=6, out=tmp_path / "out")
    untrained = replace(record.with_key(bundle.name), trained=None)
    predicted = record.with_key(bundle.name).metrics
    assert found.before.metrics == pytest.approx(dict(predicted), rel=1e-5)
    assert [point[0] for point in found.after.curve][-1] == 6
    assert min(p[2] for p in found.after.curve) <= found.after.curve[0][2]
    assert found.after.candidate == untrained.candidate
    (check,) = verify_each([found.bundle], TaskSource(config=config))
    assert check.mismatches == ()
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")) == []


def test_a_bundle_far_from_its_run_has_the_config_on_its_card(finished, bundle, tmp_path):
    record, config = finished
    far = tmp_path / "received"
    shutil.copytree(bundle, far)
    assert config_of_bundle(bundle, (), trusts_cards=False).recovery == config.recovery
    own = config_of_bundle(far, ["recovery={recipe: {batch: 16}}"], trusts_cards=False)
    assert (own.task, own.recovery.recipe.batch) == (config.task, 16)
    assert place_beside(far) == tmp_path / "recovered"
    assert place_beside(bundle) == record.folder.resolve() / "recovered"


@pytest.mark.parametrize(
    "other",
    [
        Candidate(architecture="wide"),
        Candidate.of(layers={"other": LayerChoice(weight_bits=4)}),
        Candidate(),
    ],
)
def test_a_bundle_of_another_network_is_refused(finished, bundle, tmp_path, other):
    _, config = finished
    far = tmp_path / "far" / bundle.name
    shutil.copytree(bundle, far)
    (far / "candidate.json").write_text(json.dumps(other.to_json()))
    with pytest.raises(TrainingError, match="give the config of its run"):
        recover_bundle(far, config, steps=1, out=tmp_path / "out")


def test_the_bundle_that_training_begins_with_is_never_replaced(finished, bundle):
    _, config = finished
    with pytest.raises(BundleError, match="must not replace"):
        recover_bundle(bundle, config, steps=1, out=bundle.parent)


def test_a_loop_of_ones_own_is_written_back_as_a_bundle(finished, bundle, tmp_path):
    _, config = finished
    trainable = Trainable(load_model(bundle))
    optimizer = torch.optim.SGD(trainable.parameters(), lr=1e-3)
    (outputs,) = trainable([torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))])
    outputs.square().sum().backward()
    optimizer.step()
    trainable.after_step()
    trained = trainable.freeze()
    found = write_back(bundle, trained, config, tmp_path / "out")
    assert TrainedModels(tmp_path / "kept").put(load_model(found.bundle)) == found.after.trained
    assert found.after.metrics["loss"] != found.before.metrics["loss"]
    (check,) = verify_each([found.bundle], TaskSource(config=config))
    assert check.mismatches == ()
    less = replace(trained, stored=dict(list(trained.stored.items())[1:]))
    with pytest.raises(TrainingError, match="your loop"):
        write_back(bundle, less, config, tmp_path / "out")
