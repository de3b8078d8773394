"""Statistics of recurrent layers against products and gradients written out step by step."""

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.spaces.capture import capture
from paredown.spaces.structure.layers import read_layers

TIME, INPUTS, UNITS, CLASSES = 5, 3, 4, 3


class Classifier(nn.Module):
    """The last state of a recurrent layer, read by a linear one."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.recurrent = kind(INPUTS, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_state_is_an_input_at_every_step(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    module, x = Classifier(kind).eval(), torch.randn(6, TIME, INPUTS)
    captured = capture(module, x[:2])
    layers, _ = read_layers(captured)
    found = collect_statistics(captured.graph, captured.tensors, layers, [[x[:4]], [x[4:]]])
    with torch.no_grad():
        states = module.recurrent(x)[0]
    before = torch.cat([torch.zeros(6, 1, UNITS), states[:, :-1]], dim=1).reshape(-1, UNITS)
    inputs = x.reshape(-1, INPUTS)
    over_state = found["recurrent.weight_hh_l0"]
    torch.testing.assert_close(over_state.gram, (before.t() @ before / len(before)).double())
    torch.testing.assert_close(over_state.input_mean, before.mean(dim=0).double())
    # An LSTM and a plain RNN have one bias, that of the product over the inputs.
    bias = captured.tensors.get("recurrent.bias_hh_l0", torch.zeros(()))
    assert (bias.ndim > 0) == (kind is nn.GRU)
    product = (before @ module.recurrent.weight_hh_l0.t() + bias).double()
    torch.testing.assert_close(over_state.output_mean, product.mean(dim=0).detach())
    over_inputs = found["recurrent.weight_ih_l0"]
    torch.testing.assert_close(over_inputs.gram, (inputs.t() @ inputs / len(inputs)).double())


def test_gradients_by_the_gates_are_those_of_every_step() -> None:
    torch.manual_seed(1)
    module, x, labels = (
        Classifier(nn.RNN).eval(),
        torch.randn(6, TIME, INPUTS),
        torch.arange(6) % 3,
    )
    captured = capture(module, x[:2])
    layers, _ = read_layers(captured)
    found = collect_statistics(
        captured.graph, captured.tensors, layers, [[x]], summed_cross_entropy, [labels]
    )
    recurrent = module.recurrent
    state, gates = torch.zeros(6, UNITS), []
    for step in range(TIME):
        read = (
            x[:, step] @ recurrent.weight_ih_l0.t() + recurrent.bias_ih_l0 + recurrent.bias_hh_l0
        )
        gates.append(read + state @ recurrent.weight_hh_l0.t())
        gates[-1].retain_grad()
        state = torch.tanh(gates[-1])
    nn.functional.cross_entropy(module.head(state), labels, reduction="sum").backward()
    gradients = torch.cat([gate.grad for gate in gates])
    expected = (gradients.t() @ gradients / 6).double()
    for name in ("recurrent.weight_ih_l0", "recurrent.weight_hh_l0"):
        torch.testing.assert_close(found[name].gradient_gram, expected)
