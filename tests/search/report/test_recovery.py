"""What the report says of training."""

from dataclasses import replace

import pytest

from paredown.search.proposing.outlook import Outlook
from paredown.search.report.recovery import recovery_metrics, recovery_section
from paredown.search.report.style import Picture
from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import front_of
from paredown.search.study.rung import Recipe, Rung

CURVE = ((0, 0.5, 0.5), (10, 0.4, 0.3), (20, 0.2, 0.25))


@pytest.fixture
def picture(goals, make_evaluations, layer_weights):
    """Twelve candidates, of which three were trained for 20 steps and one of these for 20 more."""
    evaluations = list(make_evaluations(12))
    chosen = [e for e in evaluations if not e.is_failed and e.kind == "search"][:3]
    for number, keys in ((1, chosen), (2, chosen[:1])):
        rung = Rung(number=number, recipe=Recipe(trainer="t 1", steps=20 * number))
        for each in keys:
            metrics = {**each.metrics, "accuracy": each.metrics["accuracy"] + 0.01 * number}
            trained = replace(
                each, number=len(evaluations), rung=rung, metrics=metrics, curve=CURVE, trained="x"
            )
            evaluations.append(trained)
    outline = Outline(layer_weights=layer_weights, widths={})
    front = front_of(evaluations, goals, evaluations[-1].rung)
    return Picture(evaluations=tuple(evaluations), front=front, outline=outline)


def test_nothing_is_said_where_nothing_was_trained(picture):
    plain = tuple(e for e in picture.evaluations if not e.curve)
    assert recovery_section(replace(picture, evaluations=plain)) == ""


def test_quality_stands_in_a_column_for_each_rung(picture):
    text = recovery_section(picture)
    assert "<th>20 steps</th><th>40 steps</th>" in text
    trained = [e for e in picture.evaluations if e.curve]
    assert text.count("<tr>") == 1 + 3  # the head, and a row for each model
    for each in trained:
        assert f"{100 * each.metrics['accuracy']:.2f}" in text


def test_curves_go_on_from_rung_to_rung(picture):
    text = recovery_section(picture)
    # The steps of the second rung begin where the first one ended.
    assert '"x":[0,10,20,20,30,40]' in text.replace(" ", "")


def test_the_order_before_and_after_is_compared(picture):
    assert "Rank correlation of" in recovery_section(picture)
    assert "over 3 models" in recovery_section(picture)


@pytest.fixture
def foretold(picture):
    """Two candidates that lost 10 and 20 points and, once trained, 5 and 2 of 90."""
    goals = (Goal(metric="accuracy", direction="maximize"),)
    base = next(e for e in picture.evaluations if e.label == "uncompressed")
    base = replace(base, metrics={"accuracy": 0.9})
    one, other = [e for e in picture.evaluations if e.rung.number == 1][:2]
    evaluations = [
        base,
        *(
            replace(each, rung=rung, metrics={"accuracy": value}, trained=trained, curve=curve)
            for rung, trained, curve, values in (
                (base.rung, None, (), (0.8, 0.7)),
                (one.rung, "x", CURVE, (0.85, 0.88)),
            )
            for each, value in zip((one, other), values, strict=True)
        ),
    ]
    front = front_of(evaluations, goals, one.rung)
    return replace(
        picture,
        evaluations=tuple(evaluations),
        front=front,
        outlook=Outlook.of_training(goals),
        hypervolumes=(),
    )


def test_what_was_expected_stands_beside_what_it_became(foretold):
    text = recovery_section(foretold)
    # 4.5 of 10 points, give or take 1.2816 * 0.225 * 10; then 9.25 of 20, as the first one teaches.
    assert "<td>80.00 %</td><td>85.50 % (82.62 % to 88.38 %)</td><td>85.00 %</td>" in text
    assert "<td>70.00 %</td><td>80.75 % (75.73 % to 85.77 %)</td><td>88.00 %</td>" in text
    assert "1 of 2 models lie within the 80 % interval of accuracy" in text
    assert "the mean error is 3.88 points" in text


def test_figures_of_the_forecast_have_names_for_mlflow(foretold, picture):
    found = recovery_metrics(foretold)
    assert found["recovery/accuracy_within_80"] == 0.5
    assert found["recovery/accuracy_mean_error"] == pytest.approx((0.005 + 0.0725) / 2)
    assert found["recovery/accuracy_rank_correlation"] == pytest.approx(-1.0)
    untrained = tuple(e for e in picture.evaluations if not e.curve)
    assert recovery_metrics(replace(picture, evaluations=untrained)) == {}
