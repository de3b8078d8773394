"""A layer with more inputs than a Gram is kept for: everything works, and what is exact stays exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paredown.compressors.layers.database import Database
from paredown.compressors.matrix.algebra import is_root
from paredown.compressors.statistics import layer_sums
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

CHOICES = (
    LayerChoice(weight_bits=8, method="rtn"),
    LayerChoice(weight_bits=4, method="gptq"),
    LayerChoice(weight_bits=3, method="descent", group_size=8),
    LayerChoice(weight_bits=2, method="adaround"),
    LayerChoice(weight_bits=4, method="joint", zeros=Zeros(0.5, "element")),
    LayerChoice(weight_bits=4, method="obq", zeros=Zeros(0.5, "2:4")),
    LayerChoice(rank=Rank(0.5)),
)


def _databases() -> tuple[Database, Database]:
    """One that has the linear layer's Gram, and one that has its root: 32 positions, 96 inputs."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 20), nn.ReLU(),
        nn.Linear(20, 5),
    ).eval()  # fmt: skip
    captured = capture(network, torch.randn(1, 2, 4, 4))
    model_map = read_model_map(captured)
    batches = [[torch.randn(8, 2, 4, 4)] for _ in range(4)]
    made = []
    for widest in (1000, 50):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layer_sums, "WIDEST", widest)
            statistics = collect_statistics(
                captured.graph, captured.tensors, model_map.layers, batches, summed_cross_entropy
            )
        made.append(Database(model_map, captured.tensors, statistics, {}))
    return made[0], made[1]


def test_what_does_not_compensate_is_the_same_under_a_root() -> None:
    whole, rooted = _databases()
    layer = whole.model_map.layer_by_name["3"]
    assert not is_root(whole.statistics["3"].gram)
    assert is_root(rooted.statistics["3"].gram)
    for choice in (
        LayerChoice(weight_bits=8, method="rtn"),
        LayerChoice(weight_bits=3, method="laq"),
    ):
        solutions = [database.solution(layer, choice, {}) for database in (whole, rooted)]
        assert torch.allclose(solutions[0].matrix, solutions[1].matrix, atol=1e-6)
        damages = [database.damage(layer, choice, {}) for database in (whole, rooted)]
        assert damages[0] == pytest.approx(damages[1], rel=1e-4)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_kind_of_choice_is_solved_and_stays_bounded(choice: LayerChoice) -> None:
    whole, rooted = _databases()
    layer = whole.model_map.layer_by_name["3"]
    plain = LayerChoice(
        weight_bits=choice.weight_bits, method="rtn", zeros=choice.zeros, rank=choice.rank
    )
    found = rooted.damage(layer, choice, {})
    assert 0 <= found <= whole.damage(layer, plain, {}) * 1.05 + 1e-9
    assert torch.isfinite(rooted.solution(layer, choice, {}).matrix).all()


def test_channels_before_it_go_and_it_makes_up_for_them() -> None:
    whole, rooted = _databases()
    layer = whole.model_map.layer_by_name["3"]
    (group,) = [g for g in whole.model_map.groups if "3" in g.consumers]
    choice = LayerChoice(weight_bits=8, method="gptq")
    widths = {group.name: 5}
    damages = [database.damage(layer, choice, widths) for database in (whole, rooted)]
    silent = whole.damage(layer, choice, {group.name: 1})
    assert damages[1] < silent
    assert len(set(rooted.kept_channels(group.name, 5).tolist())) == 5
