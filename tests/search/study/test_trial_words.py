"""A candidate as a trial: one parameter for each of its knobs, in words and numbers of people."""

import random

import pytest

from paredown.search.study.trial_words import attributes_of, goal_unit, trial_parameters
from paredown.spaces.candidates.candidate import Candidate


@pytest.fixture
def drawn(workbench):
    rng = random.Random(0)
    sizes = workbench.space.dimensions()
    settings = [{name: rng.randrange(n) for name, n in sizes.items()} for _ in range(20)]
    return [workbench.space.decode(each) for each in settings]


def test_every_value_is_one_of_those_that_could_have_been_taken(workbench, drawn):
    sizes = workbench.space.dimensions()
    for candidate in drawn:
        values, domains = trial_parameters(workbench.space, candidate)
        assert len(values) == len(sizes)
        assert values.keys() == domains.keys()
        for name, value in values.items():
            assert value in domains[name].choices
            assert len(set(domains[name].choices)) == len(domains[name].choices)
        assert sorted(len(d.choices) for d in domains.values()) == sorted(sizes.values())


def test_bits_are_the_numbers_that_the_candidate_has(workbench, drawn):
    for candidate in drawn:
        values, _ = trial_parameters(workbench.space, candidate)
        bits = {n.split(":")[0]: v for n, v in values.items() if n.endswith(": weight bits")}
        assert bits
        assert bits == {layer: candidate.layer(layer).weight_bits for layer in bits}


def test_candidates_that_differ_have_trials_that_differ(workbench, drawn):
    trials = [tuple(sorted(trial_parameters(workbench.space, c)[0].items())) for c in drawn]
    assert len(set(trials)) == len({candidate.key for candidate in drawn})


def test_a_candidate_outside_the_space_has_no_parameters(workbench):
    assert trial_parameters(workbench.space, Candidate(dropped=("no such block",))) == ({}, {})


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("latency_s", 0.002, 2.0),
        ("latency_s@rpi5-a76-ort", 3.0, 3000.0),
        ("onnx_bytes", 1500.0, 1.5),
        ("energy_j", 0.5, 500.0),
        ("macs", 3e9, 3000.0),
        ("accuracy", 0.75, 75.0),
        ("mean_iou", 0.75, 0.75),
    ],
)
def test_all_values_of_a_goal_have_one_unit_however_large(metric, value, shown):
    assert value * goal_unit(metric).factor == pytest.approx(shown)


def test_only_what_there_is_to_say_is_said(make_evaluations):
    evaluations = make_evaluations(80)
    failed = next(e for e in evaluations if e.is_failed)
    assert attributes_of(failed)["failed"] == failed.error
    assert "label" not in attributes_of(failed)
    assert "failed" not in attributes_of(evaluations[0])
    assert attributes_of(evaluations[0])["label"] == "uncompressed"
