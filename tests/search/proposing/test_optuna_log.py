"""Optuna's own log is silent while a search runs, and as it was afterwards."""

import logging

import optuna
import pytest

from paredown.search.proposing.optuna_log import quiet_optuna


@pytest.fixture(autouse=True)
def _as_before():
    before = optuna.logging.get_verbosity()
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize(
    ("level", "meanwhile"),
    [
        (logging.DEBUG, logging.WARNING),
        (logging.INFO, logging.WARNING),
        (logging.WARNING, logging.WARNING),
        (logging.ERROR, logging.ERROR),
    ],
)
def test_a_stricter_level_stays_and_every_level_comes_back(level, meanwhile):
    optuna.logging.set_verbosity(level)
    with quiet_optuna():
        assert optuna.logging.get_verbosity() == meanwhile
    assert optuna.logging.get_verbosity() == level


def test_the_level_comes_back_after_an_error():
    optuna.logging.set_verbosity(logging.INFO)
    with pytest.raises(ZeroDivisionError), quiet_optuna():
        raise ZeroDivisionError
    assert optuna.logging.get_verbosity() == logging.INFO


def test_a_study_made_meanwhile_says_nothing():
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("optuna")
    optuna.logging.set_verbosity(logging.INFO)
    logger.addHandler(handler)
    try:
        with quiet_optuna():
            optuna.create_study()
        assert said == []
        optuna.create_study()
        assert said
    finally:
        logger.removeHandler(handler)
