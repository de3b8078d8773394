"""Whole searches that end early: one to four evaluations, and spaces of a few models."""

import json
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


WIDE = """space.rules=[{layers: "*", weight_bits: [2, 3, 4, 5, 6, 8], method: [rtn]}]"""


def test_a_search_ends_where_its_patience_does(search_small):
    result, told = search_small("search.evaluations=200", "search.patience=8", WIDE)
    (stopped,) = told
    assert stopped == (
        "stopped early: nothing was left to gain: 8 evaluations let the hypervolume stand still"
    )
    assert 11 <= len(result.evaluations) < 200


def test_a_search_begins_with_the_front_of_another(search_small, tmp_path):
    first, _ = search_small("search.evaluations=12", WIDE)
    picked = [e.candidate for e in first.front.members if e.kind == "search"][:3]
    source = tmp_path / "front.json"
    source.write_text(json.dumps([{"candidate": c.to_json()} for c in picked]))
    (tmp_path / "again").mkdir()
    shutil.copy(tmp_path / "small" / "mlflow.db", tmp_path / "again")
    settings = ("name=again", f"search.initial={source}", "search.seed=5", WIDE)
    again, _ = search_small("search.evaluations=8", *settings)
    keys = [e.key for e in again.evaluations if e.rung.number == 0]
    assert picked
    assert keys[3 : 3 + len(picked)] == [c.key for c in picked]
