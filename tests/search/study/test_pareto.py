"""Fronts against brute force and against Optuna; volumes against a grid of cells."""

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study._multi_objective import _fast_non_domination_rank

from paredown.search.study.evaluation import (
    UNCOMPRESSED,
    Evaluation,
    Failure,
    FailureKind,
    Goal,
    MissingMetricError,
)
from paredown.search.study.pareto import (
    Front,
    front_of,
    goals_on,
    hypervolume,
    losses,
    non_dominated,
    non_dominated_rank,
    reference_point,
    volume_axes,
)
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="latency_s", direction="minimize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
DIRECTIONS = tuple(goal.direction for goal in GOALS)
# Few distinct values, so that ties and equal points are drawn often.
POINTS = st.lists(st.tuples(*[st.integers(1, 5)] * 3), max_size=30)


def evaluations_of(points):
    return tuple(
        Evaluation(
            number=number,
            key=f"{number:012x}",
            candidate=Candidate(),
            metrics=dict(zip(("accuracy", "latency_s", "onnx_bytes"), map(float, p), strict=True)),
        )
        for number, p in enumerate(points)
    )


def brute_force(points):
    def beats(a, b):
        return a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2] and a != b

    return [i for i, p in enumerate(points) if not any(beats(q, p) for q in points)]


@given(POINTS)
def test_the_incremental_front_equals_brute_force(points):
    front = front_of(evaluations_of(points), GOALS)
    assert [member.number for member in front.members] == brute_force(points)


@given(POINTS, st.integers(0, 2**16))
def test_the_front_does_not_depend_on_the_order_of_arrival(points, seed):
    evaluations = list(evaluations_of(points))
    straight = front_of(evaluations, GOALS)
    random.Random(seed).shuffle(evaluations)
    assert front_of(evaluations, GOALS).keys == straight.keys


@given(POINTS.filter(bool))
def test_ranks_equal_those_of_optuna(points):
    values = np.array(points, dtype=float)
    turned = values * [-1, 1, 1]
    ranks = non_dominated_rank(values, DIRECTIONS)
    assert ranks.tolist() == _fast_non_domination_rank(turned).tolist()
    assert np.flatnonzero(non_dominated(values, DIRECTIONS)).tolist() == brute_force(points)


def test_rows_with_nan_come_last_and_beat_nothing():
    values = np.array([[0.9, 1.0], [math.nan, 0.1], [0.8, 2.0]])
    assert non_dominated_rank(values, ("maximize", "minimize")).tolist() == [0, 2, 1]


def test_the_front_equals_the_best_trials_of_an_optuna_study(make_evaluations):
    evaluations = make_evaluations(80)
    study = optuna.create_study(directions=list(DIRECTIONS))
    for evaluation in evaluations:
        values = [evaluation.metrics.get(goal.metric) for goal in GOALS]
        state = optuna.trial.TrialState.FAIL if evaluation.is_failed else None
        study.add_trial(
            optuna.trial.create_trial(
                state=state or optuna.trial.TrialState.COMPLETE,
                values=None if state else values,
            )
        )
    expected = [trial.number for trial in study.best_trials]
    assert [m.number for m in front_of(evaluations, GOALS).members] == sorted(expected)


def test_an_evaluation_that_changes_nothing_returns_the_same_front(make_evaluations):
    evaluations = make_evaluations(60)
    front = front_of(evaluations, GOALS)
    worse = {"accuracy": 0.0, "latency_s": 9.0, "onnx_bytes": 9e9}
    assert front.add(replace(evaluations[0], metrics=worse)) is front
    assert (
        front.add(
            replace(evaluations[0], failure=Failure.of_text(FailureKind.RAISED, "out of memory"))
        )
        is front
    )
    assert front.add(replace(evaluations[0], rung=Rung(number=1))) is front


def test_an_evaluation_outside_a_bound_never_enters(make_evaluations):
    bounded = (replace(GOALS[0], at_least=0.85), *GOALS[1:])
    front = front_of(make_evaluations(80), bounded)
    assert front.members
    assert all(member.metrics["accuracy"] >= 0.85 for member in front.members)


@pytest.mark.parametrize("value", [{}, {"accuracy": math.nan}])
def test_a_missing_or_nan_goal_is_refused_with_its_name(value):
    evaluation = Evaluation(number=0, key="k", candidate=Candidate(), metrics=value)
    with pytest.raises(MissingMetricError, match="accuracy"):
        losses(evaluation, GOALS[:1])


def cell_volume(points, reference):
    """Volume by cutting space at every coordinate and asking each cell: exact and slow."""
    axes = [sorted({p[d] for p in points} | {reference[d]}) for d in range(len(reference))]
    volume = 0.0
    for cell in itertools.product(*[itertools.pairwise(axis) for axis in axes]):
        corner = [low for low, _ in cell]
        if any(all(p[d] <= corner[d] for d in range(len(reference))) for p in points):
            volume += math.prod(high - low for low, high in cell)
    return volume


@given(st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=1, max_size=8))
def test_the_hypervolume_equals_a_sum_over_cells(points):
    front = front_of(evaluations_of(points), GOALS)
    reference = volume_axes(np.array([[2.0, 5.0, 5.0]]), GOALS)[0]
    values = volume_axes(np.array(points, dtype=float), GOALS)
    inside = [tuple(p) for p in values if (p <= reference).all()]
    expected = cell_volume(inside, tuple(reference)) if inside else 0.0
    assert hypervolume(front, reference) == pytest.approx(expected, abs=1e-12)


def test_half_the_cost_at_no_lost_accuracy_is_a_tenth_of_ln_two():
    goals = (GOALS[0], GOALS[2])
    full, eight, half = evaluations_of([(0.9, 1, 400), (0.9, 1, 100), (0.9, 1, 50)])
    reference = reference_point(goals, full, eight)
    assert hypervolume(front_of([half], goals), reference) == pytest.approx(0.1 * math.log(2))
    assert hypervolume(front_of([full, eight], goals), reference) == 0.0


def test_a_quality_other_than_accuracy_may_lose_half_its_magnitude():
    goals = (Goal(metric="loss", direction="minimize"),)
    full = Evaluation(number=0, key="k", candidate=Candidate(), metrics={"loss": 0.4})
    assert reference_point(goals, full, full)[0] == pytest.approx(0.6)


def test_the_volume_never_falls_as_a_front_grows(make_evaluations):
    evaluations = make_evaluations(80)
    reference = reference_point(GOALS, evaluations[0], evaluations[1])
    history = [hypervolume(front_of(evaluations[:n], GOALS), reference) for n in range(1, 81)]
    assert all(a <= b for a, b in itertools.pairwise(history))
    assert history[-1] > history[0]


def test_an_empty_front_has_no_volume():
    assert hypervolume(Front(GOALS), np.zeros(3)) == 0.0


def test_a_relative_bound_refers_to_the_uncompressed_model_on_the_rows_of_the_rung():
    """The first rows are easier by two points here: the bound is three points below either score."""
    last = Rung(number=1)
    goal = Goal(metric="accuracy", direction="maximize", at_least=0.87, relative=True)
    goals = (goal, replace(GOALS[1], at_most=2.0, relative=True), replace(goal, relative=False))
    first, again, candidate = evaluations_of([(0, 2, 1), (0, 2, 1), (0, 1, 1)])
    accuracies = ((first, 0.90, Rung()), (again, 0.88, last), (candidate, 0.855, last))
    first, again, candidate = (
        replace(e, rung=rung, metrics={**e.metrics, "accuracy": accuracy})
        for e, accuracy, rung in accuracies
    )
    first, again = (replace(e, kind="reference", label=UNCOMPRESSED) for e in (first, again))
    known = [first, again, candidate]
    moved = goals_on(last, known, goals)
    assert moved[0].at_least == pytest.approx(0.85)
    assert moved[1:] == goals[1:], "costs and bounds in the metric's own unit stay"
    assert candidate.key in front_of(known, moved[:2], last).keys
    assert candidate.key not in front_of(known, goals[:2], last).keys
    assert goals_on(Rung(), known, goals) == goals
    assert goals_on(last, [first], goals) == goals, "until it was scored there"
