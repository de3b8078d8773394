"""What a page says above its pictures."""

import pytest

from paredown.search.report.decisions import decision_figure
from paredown.search.report.sections import HYPERVOLUME, front_section, progress_section
from paredown.search.report.style import Picture
from paredown.search.study.display import Outline
from paredown.search.study.pareto import front_of


@pytest.fixture
def picture(goals, make_evaluations, layer_weights):
    evaluations = make_evaluations(30)
    outline = Outline(layer_weights={**layer_weights, "<b>": 1}, widths={"<i>": 8})
    return Picture(
        evaluations=evaluations,
        front=front_of(evaluations, goals),
        outline=outline,
        hypervolumes=tuple(0.1 for _ in evaluations),
    )


def test_the_hypervolume_is_explained_where_it_is_drawn(picture):
    assert HYPERVOLUME.split(".")[0] in progress_section(picture)


def test_a_click_is_promised_only_where_there_is_something_to_open(picture):
    assert "A click" not in front_section(picture, {})
    key = picture.front.members[0].key
    assert "A click" in front_section(picture, {key: f"bundles/{key}/"})


def test_names_of_parts_are_text(picture):
    """Plotly reads some markup in the texts of a figure."""
    figure = decision_figure(picture)
    assert "&lt;b&gt;" in figure.data[0].y
    assert "<b>" not in figure.data[0].y
