"""Linear layers that read one value share one Gram matrix, and nothing else is shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.statistics.layer_sums import LayerSums


class _Attention(nn.Module):
    """Queries, keys and values of one input; the output layer reads another."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))
        self.out = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1)
        return self.out(weights @ self.v(x)).mean(1)


def test_three_readers_of_one_value_cost_one_gram_and_get_the_right_one(
    capture_layers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    batches = [[torch.randn(5, 7, 6) + 1] for _ in range(3)]
    captured, layers = capture_layers(_Attention(), batches[0][0])
    counted: list[str] = []
    plain = LayerSums.add_inputs

    def counting(sums: LayerSums, arguments: Any) -> None:
        counted.append(sums.layer.name)
        plain(sums, arguments)

    monkeypatch.setattr(LayerSums, "add_inputs", counting)
    found = collect_statistics(
        captured.graph, captured.tensors, layers, batches, loss=summed_cross_entropy
    )
    assert sorted(set(counted)) == ["out", "q"]
    x = torch.cat([batch[0] for batch in batches]).reshape(-1, 6).double()
    for name in ("q", "k", "v"):
        assert torch.allclose(found[name].gram, x.t() @ x / len(x), rtol=1e-5)
        assert torch.allclose(found[name].input_mean, x.mean(0), rtol=1e-5)
        assert found[name].positions == len(x)
    assert not torch.allclose(found["out"].gram, found["q"].gram)
    assert not torch.equal(found["q"].output_mean, found["k"].output_mean)
    assert not torch.equal(found["q"].gradient_gram, found["v"].gradient_gram)


@pytest.mark.parametrize("positions", [1000, 6000])
def test_a_wide_gram_is_as_exact_as_one_chunk_of_float32(
    capture_layers: Callable[..., Any], positions: int
) -> None:
    """Chunks are summed in float32 and the chunks in float64: errors do not grow with the data.

    A float32 product of n terms errs by at most n eps sum |x_i y_i|, in practice by about its root.
    """
    torch.manual_seed(1)
    width = 800
    x = torch.randn(positions, width) + 3
    captured, layers = capture_layers(nn.Linear(width, 2), x[:1])
    found = collect_statistics(captured.graph, captured.tensors, layers, [[x]])
    exact = x.double().t() @ x.double() / positions
    scale = x.abs().double().t() @ x.abs().double() / positions
    chunk = 2**22 // width
    error = (found[layers[0].name].gram - exact).abs() / scale
    assert float(error.max()) <= 4 * chunk**0.5 * torch.finfo(torch.float32).eps
    assert torch.equal(found[layers[0].name].gram, found[layers[0].name].gram.t())
