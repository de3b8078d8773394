"""The decision chart: a cell for each layer and model, and the structure below it."""

from dataclasses import replace

import numpy as np
from plotly.graph_objects import Scatter

from paredown.search.report.decisions import decision_figure, structure_rows
from paredown.search.report.style import Picture
from paredown.search.study.display import Outline
from paredown.search.study.pareto import front_of
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros


def test_the_decision_chart_has_a_cell_for_each_layer_and_model(picture, layer_weights):
    figure = decision_figure(picture)
    cells = np.array(figure.data[0].z)
    assert cells.shape == (len(layer_weights), len(picture.front.members))
    assert figure.data[0].y[0] in [n for n, count in layer_weights.items() if count == 36864]
    # A layer that went with its block has none.
    without = [bool(m.candidate.dropped) for m in picture.ordered]
    assert any(without)
    row = list(figure.data[0].y).index("layer1.1.conv1")
    assert [cell is None for cell in figure.data[0].z[row]] == without


def test_a_cell_tells_how_zeros_lie_and_which_form_a_lower_rank_takes(picture):
    choice = LayerChoice(weight_bits=4, zeros=Zeros(0.5, "block"), rank=Rank(0.4, "tucker", 0.6))
    member = replace(picture.front.members[0], candidate=Candidate.of(layers={"conv1": choice}))
    bits = decision_figure(replace(picture, front=front_of([member], picture.goals))).data[0]
    said = {name: row[0] for name, row in zip(bits.y, bits.customdata, strict=True)}
    assert said.pop("conv1") == "4 bit, 50% block zeros, tucker rank 40% × 60%"
    assert set(said.values()) == {"32 bit, no zeros, whole"}
    written = {name: row[0] for name, row in zip(bits.y, bits.text, strict=True)}
    assert written.pop("conv1") == 4
    assert set(written.values()) == {32}


def test_a_cell_of_a_dropped_layer_says_that_it_is_gone(picture):
    figure = decision_figure(picture)
    bits = figure.data[0]
    absent = next(t for t in figure.data if isinstance(t, Scatter))
    dropped = [m for m in picture.ordered if m.candidate.dropped]
    assert dropped
    # Both layers of the block, in every model without it.
    assert len(absent.x) == 2 * len(dropped)
    assert set(absent.y) == {"layer1.1.conv1", "layer1.1.conv2"}
    assert all("gone with block layer1.1" in text for text in absent.hovertext)
    assert bits.hoverongaps is False
    gaps = zip(np.ravel(bits.z), np.ravel(bits.text), strict=True)
    assert {text for code, text in gaps if code is None} == {""}


def test_the_decision_chart_of_two_architectures_leaves_gaps_where_one_has_no_layer(
    picture, layer_weights
):
    small = Outline(layer_weights={"conv1": 432, "extra": 9}, widths={"other": 8})
    outline = Outline(
        layer_weights={**layer_weights, "extra": 9},
        widths={"layer2.0.conv1": 32, "other": 8},
        architectures={"": picture.outline, "small": small},
    )
    first, *others = picture.front.members
    changed = replace(first, candidate=Candidate(architecture="small"))
    both = replace(picture, front=front_of([*others, changed], picture.goals), outline=outline)
    figure = decision_figure(both)
    names = list(figure.data[0].y)
    assert set(names) == {*layer_weights, "extra"}
    column = [m.candidate.architecture for m in both.ordered].index("small")
    cells = {name: row[column] for name, row in zip(names, figure.data[0].z, strict=True)}
    assert {name for name, cell in cells.items() if cell is not None} == {"conv1", "extra"}
    assert all(row[column] == 1 for row in structure_rows(both).values())
    alone = front_of([changed], picture.goals)
    figure = decision_figure(replace(picture, front=alone, outline=outline))
    assert set(figure.data[0].y) == {"conv1", "extra"}


def test_structure_that_no_model_changes_is_not_drawn(picture, goals, make_evaluations):
    assert "block layer1.1" in structure_rows(picture)
    plain = Picture(
        evaluations=make_evaluations(1)[:1],
        front=front_of(make_evaluations(1)[:1], goals),
        outline=picture.outline,
    )
    assert structure_rows(plain) == {}
    assert len(decision_figure(plain).data) == 1
