"""Whole searches that end early: one to four evaluations, and spaces of a few models."""

import shutil

import pytest

from paredown.search.running import course
from paredown.search.running.searching import UNIFORM_4_BIT
from paredown.search.running.whole_search import run
from paredown.search.study.evaluation import UNCOMPRESSED, UNIFORM_8_BIT

CONFIG = """\
name: small
task: {name: digits}
space: {rules: [{layers: "*", weight_bits: [4, 8], method: [rtn], tie: true}]}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, rung_images: 100000}
"""
REFERENCES = [UNCOMPRESSED, UNIFORM_8_BIT, UNIFORM_4_BIT]


@pytest.fixture
def search_small(tmp_path, monkeypatch, empty_store):
    """Runs the config with overrides, as far as its export; what it left, and what its report tells."""
    monkeypatch.setattr(course, "export_front", lambda *_: ())
    told = []
    monkeypatch.setattr(course, "write_pages", lambda *found: told.append(found[-1].told))
    monkeypatch.setattr(course, "log_pages", lambda *_: None)
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    (tmp_path / "small").mkdir()
    shutil.copy(empty_store, tmp_path / "small")

    def carry_out(*overrides):
        result = run(path, overrides=[f"output.folder={tmp_path}", *overrides])
        return result, told[-1]

    return carry_out


@pytest.mark.parametrize("evaluations", [1, 2, 3, 4])
def test_the_references_are_always_evaluated_and_count(search_small, evaluations):
    result, told = search_small(f"search.evaluations={evaluations}")
    labels = [evaluation.label for evaluation in result.evaluations]
    assert labels == REFERENCES + [""] * max(0, evaluations - 3)
    assert told == []


@pytest.mark.parametrize("sampler", ["pareto", "nsga2"])
def test_a_space_of_two_models_is_searched_to_its_end_and_no_further(search_small, sampler):
    result, told = search_small("search.evaluations=50", f"search.sampler={sampler}")
    assert [e.label for e in result.evaluations] == [*REFERENCES, "", ""]
    assert len({e.key for e in result.evaluations}) == 5
    assert told == [
        "stopped early: the space is exhausted: all of it was evaluated, 2 models; open more to "
        "go on"
    ]
