"""A file with free axes runs at other sizes, and a file without is what it was."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.kernels.kernel_checks import session
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.sizes import onnx_file_bytes
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map


class Encoder(nn.Module):
    """Positions, heads, a causal mask, windows of two, and a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 8), nn.Embedding(40, 8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        batch, time = ids.shape
        x = self.words(ids) + self.places(torch.arange(time))[None]
        q, k, v = (t.view(batch, time, 2, 4).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        pairs = y[:, : time // 2 * 2].reshape(batch, time // 2, 16)
        wide = torch.stack([pairs, torch.zeros_like(pairs)], -1).sum(-1)
        return self.out(wide)


def _model(module: nn.Module, x: Tensor, timed: bool, any_batch: bool) -> CompressedModel:
    captured = capture(module, x, lengths=(2, 64) if timed else None)
    captured = replace(captured, graph=replace(captured.graph, any_batch=any_batch))
    stored = {name: StoredTensor.unchanged(t) for name, t in captured.tensors.items()}
    return CompressedModel(blueprint=draft(read_model_map(captured), Candidate()), stored=stored)


@pytest.mark.parametrize("any_batch", [False, True])
def test_a_file_with_free_axes_runs_at_other_sizes(any_batch: bool) -> None:
    module = Encoder()
    model = _model(module, torch.randint(30, (2, 6)), True, any_batch)
    proto = lower(model)
    running = session(proto.SerializeToString(), exact=True)
    for batch, time in ((2, 4), (2, 9), (2, 40), *(((1, 6), (5, 11)) if any_batch else ())):
        ids = torch.randint(30, (batch, time))
        (found,) = running.run(None, {"ids": ids.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), module(ids), atol=1e-5, rtol=1e-4)
    (size,) = (value.type.tensor_type.shape.dim for value in proto.graph.input)
    assert [d.dim_param or d.dim_value for d in size] == ["batch" if any_batch else 2, "time"]
    (shape,) = (value.type.tensor_type.shape.dim for value in proto.graph.output)
    assert [bool(d.dim_param) for d in shape] == [any_batch, True, False]
    onnx.checker.check_model(proto)


def test_a_file_with_free_axes_has_the_bytes_that_are_counted() -> None:
    model = _model(Encoder(), torch.randint(30, (2, 6)), True, True)
    assert onnx_file_bytes(model.blueprint) == len(lower(model).SerializeToString())


@pytest.mark.parametrize("here", [4, 30, 40])
def test_the_example_may_have_any_length_that_the_positions_reach(here: int) -> None:
    module = Encoder()
    captured = capture(module, torch.randint(30, (1, here)), lengths=(4, 40))
    stored = {name: StoredTensor.unchanged(t) for name, t in captured.tensors.items()}
    model = CompressedModel(blueprint=draft(read_model_map(captured), Candidate()), stored=stored)
    proto = lower(model)
    running = session(proto.SerializeToString(), exact=True)
    for time in (4, 17, 40):
        ids = torch.randint(30, (1, time))
        (found,) = running.run(None, {"ids": ids.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), module(ids), atol=1e-5, rtol=1e-4)
    (shape,) = (value.type.tensor_type.shape.dim for value in proto.graph.output)
    assert [bool(d.dim_param) for d in shape] == [False, True, False]


def test_a_convolution_takes_any_batch() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    ).eval()
    model = _model(module, torch.randn(1, 3, 8, 8), False, True)
    running = session(lower(model).SerializeToString(), exact=True)
    for batch in (1, 4):
        x = torch.randn(batch, 3, 8, 8)
        (found,) = running.run(None, {"input": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), module(x), atol=1e-5, rtol=1e-4)
