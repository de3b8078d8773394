"""What torch.export traced is read operator by operator, with free sizes as they were computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paredown.spaces.graph.capturing import capture
from paredown.spaces.graph.graph import run
from paredown.spaces.graph.hold import check_graph


class Windows(nn.Module):
    """Pairs of places, so that the length is halved."""

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        pairs = x[:, : time // 2 * 2].reshape(batch * (time // 2), 2 * width)
        return pairs.reshape(batch, -1, 2 * width) + torch.arange(time // 2)[:, None]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.net = kind(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]


def test_a_graph_runs_at_any_length() -> None:
    found = capture(Windows(), torch.randn(2, 6, 3), lengths=(2, 64))
    assert found.graph.timed == ("x",)
    for batch, time in ((1, 4), (3, 9), (2, 50)):
        x = torch.randn(batch, time, 3)
        (y,) = run(found.graph, found.tensors, [x])
        assert torch.equal(y, Windows()(x))


def test_a_dimension_that_the_module_fixes_is_no_time() -> None:
    found = capture(nn.Conv1d(3, 4, 3), torch.randn(2, 3, 9), lengths=(2, 64))
    assert found.graph.timed == ()


def test_recurrent_operators_are_not_taken_apart() -> None:
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        module, x = Recurrent(kind), torch.randn(3, 6, 4)
        found = capture(module, x[:2])
        check_graph(module, found, x)
        assert sum(node.facts.kind == "recurrent" for node in found.graph.nodes) == 1


def test_a_cell_in_a_loop_is_read_as_it_is_traced() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for step in x.unbind(1):
                state = self.cell(step, state)
            assert state is not None
            return state[0]

    module, x = Loop(), torch.randn(3, 4, 4)
    check_graph(module, capture(module, x[:2]), x)
