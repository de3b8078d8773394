"""What spaces the sampler takes, and how their values and codes belong together."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from paredown.search.proposing.optuna_log import quiet_optuna
from paredown.search.proposing.pareto.pareto_sampler import ParetoSampler, choices_of
from paredown.search.study.evaluation import Goal

ACCURACY = Goal(metric="accuracy", direction="maximize")
BYTES = Goal(metric="onnx_bytes", direction="minimize")


def test_only_discrete_choices_are_taken():
    with pytest.raises(
        ValueError, match=r"integers and categories, rate is FloatDistribution.*use Int"
    ):
        choices_of({"bits": IntDistribution(2, 8), "rate": FloatDistribution(0, 1)})
    with pytest.raises(ValueError, match="use IntDistribution or CategoricalDistribution"):
        choices_of({"bits": IntDistribution(2, 8, log=True)})


def test_sizes_and_orders_are_those_of_the_distributions():
    found = choices_of(
        {
            "bits": IntDistribution(2, 8, step=2),
            "method": CategoricalDistribution(("rtn", "gptq")),
            "network": IntDistribution(0, 2),
        },
        unordered=["network"],
    )
    assert found.names == ("bits", "method", "network")
    assert found.sizes == (4, 2, 3)
    assert found.ordered == (True, False, False)


def test_categories_steps_and_offsets_are_values_in_the_study_and_codes_in_prices():
    """Codes count from 0 in the distributions' order, whatever the values are."""
    space = {
        "method": CategoricalDistribution(("rtn", "gptq", "descent")),
        "bits": IntDistribution(4, 16, step=4),
    }
    seen = []

    def prices(codes):
        assert codes.min() >= 0
        assert codes.max(axis=0)[0] <= 2
        assert codes.max(axis=0)[1] <= 3
        return (100.0 - 20 * codes[:, 1] + codes[:, 0])[:, None]

    def objective(trial):
        parameters = {
            "method": trial.suggest_categorical("method", ("rtn", "gptq", "descent")),
            "bits": trial.suggest_int("bits", 4, 16, step=4),
        }
        seen.append((parameters["method"], parameters["bits"]))
        harm = {"rtn": 0.0, "gptq": 0.02, "descent": -0.03}[parameters["method"]]
        steps = (parameters["bits"] - 4) // 4
        method = ("rtn", "gptq", "descent").index(parameters["method"])
        return 0.9 - 0.02 * steps - harm * steps, 100.0 - 20 * steps + method

    with quiet_optuna():
        sampler = ParetoSampler(
            space,
            prices,
            None,
            (ACCURACY, BYTES),
            (0.9, 100.0),
            initial=[{"method": "gptq", "bits": 16}],
        )
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(objective, n_trials=12)
    assert seen[0] == ("gptq", 16)
    assert len(set(seen)) == 12, "all of the space, each once"


def test_where_all_is_known_chance_decides():
    space = {"bits": IntDistribution(0, 1)}
    sampler = ParetoSampler(space, lambda codes: 2.0 - codes, None, (ACCURACY, BYTES), (0.9, 2.0))
    with quiet_optuna():
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(lambda t: (0.9, 2.0 - t.suggest_int("bits", 0, 1)), n_trials=6)
    assert {t.params["bits"] for t in study.trials} == {0, 1}
    assert len(study.trials) == 6


def test_equal_candidates_count_as_one():
    """The second choice means nothing where the first is 0."""
    space = {"rank": IntDistribution(0, 2), "form": IntDistribution(0, 2)}

    def same(codes):
        return codes * np.array([1, codes[0] > 0])

    sampler = ParetoSampler(
        space,
        lambda codes: 10.0 - codes[:, :1],
        None,
        (ACCURACY, BYTES),
        (0.9, 10.0),
        same=same,
    )
    with quiet_optuna():
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(
            lambda t: (
                0.9 - 0.01 * t.suggest_int("rank", 0, 2),
                10.0 + 0 * t.suggest_int("form", 0, 2),
            ),
            n_trials=7,
        )
    assert len({tuple(same(np.array(list(t.params.values())))) for t in study.trials}) == 7
