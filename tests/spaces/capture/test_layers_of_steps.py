"""Recurrent modules as they are captured, against themselves."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from paredown.spaces.capture import CaptureError, capture
from paredown.spaces.capture.layers_of_steps import RECURRENT, unroll
from paredown.spaces.graph import run


class Tagger(nn.Module):
    """All that a recurrent module gives, the batch in front."""

    def __init__(self, kind: type[nn.RNNBase], **options) -> None:
        super().__init__()
        self.recurrent = kind(5, 6, **options)
        self.turns = not options.get("batch_first", False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        states, last = self.recurrent(x.transpose(0, 1) if self.turns else x)
        ends = last if isinstance(last, tuple) else (last,)
        states = states.transpose(0, 1) if self.turns else states
        return (states, *(end.transpose(0, 1) for end in ends))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.LSTM, {"batch_first": True}),
        (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
        (nn.LSTM, {"num_layers": 2, "bias": False, "dropout": 0.5}),
        (nn.GRU, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
        (nn.GRU, {"bias": False}),
        (nn.RNN, {"batch_first": True, "bidirectional": True}),
        (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
    ],
)
def test_a_captured_module_gives_all_that_it_gave(kind, options) -> None:
    torch.manual_seed(0)
    module = Tagger(kind, **options).eval()
    captured = capture(module, torch.randn(2, 7, 5))
    x = torch.randn(3, 7, 5)
    with torch.no_grad():
        expected = module(x)
        found = run(captured.graph, captured.tensors, [x])
    for given, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(given, wanted)


class Started(nn.Module):
    """A decoder whose first state is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(4, 6)
        self.recurrent = nn.LSTM(5, 6, batch_first=True)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        state = self.start(context).unsqueeze(0)
        return self.recurrent(x, (state, torch.zeros_like(state)))[0]


def test_a_state_that_is_given_is_where_the_steps_begin() -> None:
    module = Started().eval()
    captured = capture(module, (torch.randn(2, 7, 5), torch.randn(2, 4)))
    inputs = [torch.randn(3, 7, 5), torch.randn(3, 4)]
    with torch.no_grad():
        (found,) = run(captured.graph, captured.tensors, inputs)
        torch.testing.assert_close(found, module(*inputs))


class Packed(nn.Module):
    """Reads sequences of several lengths packed into one."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(5, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((len(x),), 3)
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        return self.recurrent(packed)[1][0].transpose(0, 1)


def test_packed_sequences_are_refused() -> None:
    with pytest.raises(CaptureError):
        capture(Packed().eval(), torch.randn(2, 7, 5))


def test_projections_are_refused_with_the_setting_that_helps() -> None:
    module = Tagger(nn.LSTM, proj_size=2, batch_first=True).eval()
    with pytest.raises(CaptureError, match="proj_size=0"):
        capture(module, torch.randn(2, 7, 5))


def test_every_traced_operator_exists_in_torch() -> None:
    for name in RECURRENT:
        space, operator, overload = name.split(".")
        assert str(getattr(getattr(torch.ops, space), operator).__getattr__(overload)) == name
    assert callable(unroll)
