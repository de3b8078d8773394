"""How long an evaluation may take."""

from dataclasses import replace

import pytest

from paredown.search.config.schema import SearchSection
from paredown.search.running.trial import longest_s


@pytest.fixture
def evaluations(make_evaluations):
    """Three references of 1, 7 and 2 seconds, then a candidate of 90."""
    durations = (1.0, 7.0, 2.0, 90.0)
    made = make_evaluations(4, 0)
    return [replace(e, duration_s=d) for e, d in zip(made, durations, strict=True)]


def test_by_default_twenty_times_the_slowest_reference_as_rows_grow(evaluations):
    assert longest_s(SearchSection(), evaluations) == 140.0
    assert longest_s(SearchSection(), evaluations, growth=2.5) == 350.0


def test_by_default_at_least_a_minute(evaluations):
    assert longest_s(SearchSection(), evaluations[:1]) == 60.0


def test_what_is_configured_holds_alone(evaluations):
    assert longest_s(SearchSection(evaluation_timeout_s=0.5), evaluations, growth=9.0) == 0.5
