"""Damages predicted from statistics, against those of solved layers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.predicted_damage import DamagePredictor
from paredown.search.config.reading import load_config
from paredown.search.evaluating.surveying import survey
from paredown.spaces.candidates.candidate import IDENTITY_CHOICE, LayerChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.structure.model_map import Layer

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("PAREDOWN_DATA", ROOT.parent / "shared" / "data"))
LEAST_RANK_CORRELATION = 0.9
FACTOR = 2.0
"""Sizes are within this factor, of nine in ten (layer, choice) pairs where statistics suffice."""


def choices(layer: Layer) -> Iterator[LayerChoice]:
    for method in ("rtn", "gptq"):
        for bits in (2, 3, 4, 8):
            yield LayerChoice(weight_bits=bits, method=method)
        for share in (0.25, 0.5, 0.75):
            yield LayerChoice(zeros=Zeros(share, "element"), method=method)
        yield LayerChoice(weight_bits=4, zeros=Zeros(0.5, "element"), method=method)
        yield LayerChoice(weight_bits=8, zeros=Zeros(0.5, "2:4"), method=method)
        yield LayerChoice(weight_bits=8, zeros=Zeros(0.5, "block"), method=method)
        yield LayerChoice(weight_bits=4, rank=Rank(0.5), method=method)
        if layer.kind == "conv2d":
            yield LayerChoice(weight_bits=8, rank=Rank(0.5, "spatial"), method=method)
            yield LayerChoice(weight_bits=8, rank=Rank(0.5, "tucker"), method=method)
        if layer.kind == "linear" and layer.weight_shape[1] > 32:
            yield LayerChoice(weight_bits=4, group_size=32, method=method)


def compared(database: Database, layers: Sequence[Layer]) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and solved damages of all choices of these layers that do harm."""
    predictor = DamagePredictor(database)
    pairs = [
        (predictor.layer(layer, choice), database.damage(layer, choice, {}))
        for layer in layers
        for choice in choices(layer)
    ]
    predicted, solved = np.array(pairs).T
    return predicted[solved > 1e-12], solved[solved > 1e-12]


@pytest.mark.parametrize("name", ["lenet", "mobilenet_v2", "unet", "words"])
def test_choices_of_all_layers_come_in_the_order_of_their_damage(name, database) -> None:
    base = database(name)
    found = compared(base, base.model_map.layers)
    assert spearmanr(*found).statistic >= LEAST_RANK_CORRELATION


def test_choices_of_resnet20_are_predicted_in_order_and_size(resnet20_database) -> None:
    layers = resnet20_database.model_map.layers
    # Of every third layer, for time: wide and narrow ones, the first and the last.
    predicted, solved = compared(resnet20_database, layers[::3])
    assert spearmanr(predicted, solved).statistic >= 0.97
    is_near = np.abs(np.log(predicted / solved)) <= np.log(FACTOR)
    assert is_near.mean() >= 0.9


def test_widths_of_resnet20_are_predicted_in_order_and_size(resnet20_database) -> None:
    database, pairs = resnet20_database, []
    predictor = DamagePredictor(database)
    for group in database.model_map.groups:
        damages = predictor.widths(group.name)
        assert len(damages) == group.channels + 1
        assert damages[-1] == 0
        assert bool((damages.diff() <= 0).all())
        width = group.channels // 2
        solved = sum(
            database.damage(
                database.model_map.layer_by_name[name], IDENTITY_CHOICE, {group.name: width}
            )
            for name in group.consumers
        )
        pairs.append((float(damages[width]), solved))
    predicted, solved = np.array(pairs).T
    assert spearmanr(predicted, solved).statistic >= LEAST_RANK_CORRELATION
    assert (np.abs(np.log(predicted / solved)) <= np.log(FACTOR)).all()


def test_the_tail_of_a_rank_is_what_the_solved_layer_loses(resnet20_database) -> None:
    predictor = DamagePredictor(resnet20_database)
    for layer in resnet20_database.model_map.layers[1::6]:
        choice = LayerChoice(rank=Rank(0.5))
        # Nothing is rounded: only the bias and the rows' sizes are repaired besides.
        solved = resnet20_database.damage(layer, choice, {})
        assert predictor.layer(layer, choice) == pytest.approx(solved, rel=0.15)


def test_nothing_is_solved_and_no_channels_are_put_in_order(database, monkeypatch) -> None:
    base = database("resnet_a")
    fresh = Database(base.model_map, base.tensors, base.statistics, base.ranges)
    predictor = DamagePredictor(fresh)
    for layer in base.model_map.layers:
        predictor.layer(layer, LayerChoice(weight_bits=4, method="gptq"))
        predictor.silenced(layer)
    for group in base.model_map.groups:
        predictor.widths(group.name)
    assert fresh.solved == 0
    assert not fresh._orders


def test_the_identity_harms_nothing_and_a_silenced_layer_does(database) -> None:
    base = database("lenet")
    predictor = DamagePredictor(base)
    for layer in base.model_map.layers:
        assert predictor.layer(layer, IDENTITY_CHOICE) == 0.0
        assert predictor.silenced(layer) > predictor.layer(layer, LayerChoice(weight_bits=8))


@pytest.fixture(scope="module")
def resnet20_database() -> Database:
    """ResNet-20 with images of its calibration split; skipped where they are not there."""
    if not DATA.is_dir():
        pytest.skip(f"PAREDOWN_DATA: no such folder {DATA}")
    overrides = ["task.calibration_images=256", "task.search_rows=100"]
    environment = {"PAREDOWN_DATA": str(DATA)}
    config = load_config(ROOT / "examples/cifar10_resnet20.yaml", overrides, environment)
    surveyed = survey(config)
    name = surveyed.space.architectures[0].name
    found = surveyed.collected.of(name)
    return Database(
        surveyed.space.architectures[0].model_map,
        surveyed.captured[name].tensors,
        found.statistics,
        found.ranges,
    )
