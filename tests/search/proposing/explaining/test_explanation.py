"""An explanation as plain values."""

import json

import pytest

from paredown.search.proposing.explaining.explanation import (
    Explanation,
    Importance,
    Lost,
    Member,
    Step,
    Worth,
)
from paredown.search.study.evaluation import Goal


@pytest.fixture
def explanation():
    worth = Worth(
        what="conv1: weights",
        choice="weight bits 4",
        bought={"onnx_bytes": 35.0},
        growth={"onnx_bytes": 2.0},
        lost={"accuracy": Lost(0.01, 0.004)},
        size=0.8,
    )
    return Explanation(
        goals=(Goal(metric="accuracy", direction="maximize", at_least=0.8),),
        members=(Member(key="a", name="a", decisions=(worth,), rest=None, total=worth),),
        parts=(Importance(what="weights", share={"accuracy": None}, growth={}),),
        decisions=(),
        steps=(Step(first="a", second="b", changes=("x",), values={"accuracy": (0.9, 0.8)}),),
        evaluations=12,
        is_trained=True,
    )


def test_all_of_it_is_json_with_its_meaning(explanation):
    plain = json.loads(json.dumps(explanation.to_json(), allow_nan=False))
    (member,) = plain["members"]
    (decision,) = member["decisions"]
    assert decision["lost"] == {"accuracy": {"mean": 0.01, "deviation": 0.004}}
    assert decision["bought"] == {"onnx_bytes": 35.0}
    assert plain["goals"] == [{"metric": "accuracy", "direction": "maximize"}]
    assert plain["steps"][0]["values"] == {"accuracy": [0.9, 0.8]}
    assert plain["parts"][0]["share"] == {"accuracy": None}
    assert (plain["evaluations"], plain["is_trained"]) == (12, True)
    assert "put back" in plain["meaning"]
    assert "100 %" in plain["shares"]


def test_importance_is_sorted_by_shares_of_either_sign():
    share = {"accuracy": -0.2, "onnx_bytes": 0.5, "latency_s": None}
    assert Importance(what="w", share=share, growth={}).size == pytest.approx(0.7)
