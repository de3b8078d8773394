"""Scores weighed with predictions are nearer the truth than scores alone."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.memory import MOST
from paredown.search.proposing.promoting.belief import believed_values, quality_models
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

GOALS = (
    Goal(metric="onnx_bytes", direction="minimize"),
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="loss", direction="minimize"),
)
LAYERS = ("a", "b", "c")
FACTORS = dict(zip(LAYERS, (0.5, 1.0, 2.0), strict=True))


@dataclass(frozen=True)
class Terms:
    """Damage 4^-bits for each layer."""

    def of(self, candidate):
        found = {f"layer:/{n}": 4.0**-c.weight_bits for n, c in candidate.layers}
        return {"architecture:": 1.0} | found


def lost(candidate):
    return sum(FACTORS[n] * 4.0**-c.weight_bits for n, c in candidate.layers)


@pytest.fixture
def scored():
    """Forty candidates with scores that are off by 0.01, the uncompressed model, and the truth."""
    generator = np.random.default_rng(3)
    base = Evaluation(
        number=0,
        key="base",
        candidate=Candidate(),
        kind="reference",
        label=UNCOMPRESSED,
        metrics={"onnx_bytes": 9e4, "accuracy": 0.9, "loss": 0.4},
    )
    evaluations, truth = [], []
    for number in range(40):
        layers = {n: LayerChoice(weight_bits=int(generator.integers(2, 7))) for n in LAYERS}
        candidate = Candidate.of(layers=layers)
        truth.append(lost(candidate))
        off = generator.normal(0, 0.01, 2)
        metrics = {
            "onnx_bytes": float(1000 + number),
            "accuracy": 0.9 - truth[-1] + off[0],
            "loss": 0.4 + truth[-1] + off[1],
        }
        evaluations.append(
            Evaluation(number=number + 1, key=candidate.key, candidate=candidate, metrics=metrics)
        )
    return base, evaluations, np.array(truth)


def test_believed_qualities_are_nearer_the_truth_and_costs_untouched(scored):
    base, evaluations, truth = scored
    models = quality_models(evaluations, GOALS, base, Terms())
    assert set(models) == {"accuracy", "loss"}
    values = believed_values(evaluations, GOALS, base, Terms(), models, Outlook())
    raw = np.array([[e.metrics[g.metric] for g in GOALS] for e in evaluations])
    assert (values[:, 0] == raw[:, 0]).all()
    for column, right in ((1, 0.9 - truth), (2, 0.4 + truth)):
        believed_error = np.abs(values[:, column] - right).mean()
        assert believed_error < 0.7 * np.abs(raw[:, column] - right).mean()


def test_without_damage_scores_stand(scored):
    base, _, _ = scored
    models = quality_models([base], GOALS, base, Terms())
    assert models == {}
    values = believed_values([base], GOALS, base, Terms(), models, Outlook())
    assert values.tolist() == [[9e4, 0.9, 0.4]]
    assert believed_values([], GOALS, base, Terms(), models, Outlook()).shape == (0, 3)


def test_what_training_gives_back_counts_upwards_for_accuracy_and_downwards_for_loss(scored):
    """Where nothing is learned, a score's own loss against the uncompressed model is what is halved."""
    base, evaluations, _ = scored
    outlook = Outlook(left={"accuracy": 0.5, "loss": 0.5})
    worst = min(evaluations, key=lambda e: e.metrics["accuracy"])
    (value,) = believed_values([worst], GOALS, base, Terms(), {}, outlook)
    assert value[0] == worst.metrics["onnx_bytes"]
    assert value[1] == pytest.approx((0.9 + worst.metrics["accuracy"]) / 2)
    assert value[2] == pytest.approx((0.4 + worst.metrics["loss"]) / 2)


def test_of_very_many_those_near_the_front_teach(scored):
    """Costs grow with the number, so that later ones lead only by their quality."""
    base, evaluations, truth = scored
    hopeless = [
        replace(
            e, number=e.number + 1000 * i, metrics=e.metrics | {"onnx_bytes": 1e9, "accuracy": 0.0}
        )
        for i in range(1, 12)
        for e in evaluations
    ]
    models = quality_models([*hopeless, *evaluations], GOALS, base, Terms())
    assert len(models["accuracy"].surrogate.lost) == MOST < len(hopeless)
    found = believed_values(evaluations, GOALS, base, Terms(), models, Outlook())[:, 1]
    assert np.corrcoef(found, 0.9 - truth)[0, 1] > 0.5
