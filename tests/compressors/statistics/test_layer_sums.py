"""Running sums of a layer: in pieces, in halves, and of very many outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.narrowed import row_curvature
from paredown.compressors.matrix.algebra import damage
from paredown.compressors.statistics import layer_sums
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.structure.reading import read_model_map


@pytest.mark.parametrize("module", [nn.Linear(5, 9), nn.Conv1d(4, 8, 3, groups=2)])
def test_of_many_outputs_the_diagonal_of_their_curvature_is_kept(
    module: nn.Module, capture_layers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shape = (5,) if isinstance(module, nn.Linear) else (4, 7)
    captured, (layer,) = capture_layers(module, torch.zeros(1, *shape))
    batches = [[torch.randn(6, *shape)] for _ in range(2)]

    def collected() -> Any:
        return collect_statistics(
            captured.graph, captured.tensors, [layer], batches, loss=summed_cross_entropy
        )[layer.name]

    whole = collected()
    monkeypatch.setattr(layer_sums, "_MOST_OUTPUTS", 7)
    found = collected()
    assert found.gradient_gram.shape == (layer.weight_shape[0],)
    assert torch.allclose(found.gradient_gram, whole.gradient_gram.diagonal(), rtol=1e-5)
    assert torch.equal(row_curvature(found, None), found.gradient_gram)
    delta = torch.randn(layer.weight_shape).flatten(1)
    alone = damage(delta, whole.gram, torch.diag(found.gradient_gram))
    assert damage(delta, found.gram, found.gradient_gram) == pytest.approx(alone, rel=1e-9)


def test_a_diagonal_solves_prices_and_orders_channels_as_the_matrix_of_it_does(
    capture_layers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(layer_sums, "_MOST_OUTPUTS", 8)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 9))
    captured, layers = capture_layers(module, torch.zeros(1, 6))
    model_map = read_model_map(captured)
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        layers,
        [[torch.randn(64, 6)]],
        loss=summed_cross_entropy,
    )
    last = layers[1].name
    assert found[last].gradient_gram.shape == (9,)
    square = replace(found[last], gradient_gram=torch.diag(found[last].gradient_gram))
    one, other = (
        Database(model_map, captured.tensors, statistics, {})
        for statistics in (found, {**found, last: square})
    )
    (group,) = model_map.groups
    for width in (2, 4, 6):
        kept, same = (d.kept_channels(group.name, width) for d in (one, other))
        assert torch.equal(kept, same)
    for bits in (2, 4):
        choice = LayerChoice(weight_bits=bits, method="gptq")
        harm = other.damage(layers[1], choice, {})
        assert harm > 0
        assert one.damage(layers[1], choice, {}) == pytest.approx(harm, rel=1e-9)


@pytest.mark.parametrize(
    ("module", "shape"), [(nn.Conv2d(2, 6, 1), (2, 9, 7)), (nn.Linear(2, 6), (5, 2))]
)
def test_output_moments_are_exact_over_many_pieces(
    module: nn.Module,
    shape: tuple[int, ...],
    capture_layers: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paredown.compressors.statistics.layer_sums._PIECE", 1000)
    captured, (layer,) = capture_layers(module, torch.zeros(1, *shape))
    batches = [[100.0 + torch.randn(n, *shape)] for n in (33, 8)]
    with torch.no_grad():
        outputs = torch.cat([module(x) for (x,) in batches]).double()
    flat = outputs.movedim(1 if len(shape) == 3 else -1, 0).flatten(1)
    found = collect_statistics(captured.graph, captured.tensors, [layer], batches)[layer.name]
    assert found.positions == flat.shape[1]
    assert torch.allclose(found.output_mean, flat.mean(1), rtol=1e-7)
    assert torch.allclose(found.output_std, flat.std(1, correction=0), rtol=1e-5)


@pytest.mark.parametrize("width", [383, 384, 500])
def test_a_wide_gram_made_by_halves_is_whole_and_symmetric(
    width: int, capture_layers: Callable[..., Any]
) -> None:
    captured, (layer,) = capture_layers(nn.Linear(width, 2), torch.zeros(1, width))
    x = torch.randn(40, width, generator=torch.Generator().manual_seed(0))
    found = collect_statistics(captured.graph, captured.tensors, [layer], [[x]])[layer.name]
    wide = x.double()
    assert torch.allclose(found.gram, wide.t() @ wide / len(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.gram, found.gram.t()) or width < 384
