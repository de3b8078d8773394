"""What the report says of training."""

from dataclasses import replace

import pytest

from paredown.search.report.recovery import recovery_section
from paredown.search.report.style import Picture
from paredown.search.study.display import Outline
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
