"""Takes a traced recurrent module apart: layer by layer and direction by direction, gates and steps.

torch traces all layers and directions of an LSTM, GRU or RNN as one operator. Here each becomes a linear
layer over its inputs, for all steps at once, and the steps over time of `recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paredown.spaces.graph.functions import GETITEM
from paredown.spaces.graph.graph import Arg, Node, Ref
from paredown.spaces.graph.names import CAT, SELECT, STACK, TRANSPOSE
from paredown.spaces.graph.recurrent import GATES, GRU, LSTM, RNN_RELU, RNN_TANH
from paredown.spaces.system.errors import ParedownError

RECURRENT: Mapping[str, str] = {
    "aten.lstm.input": LSTM,
    "aten.gru.input": GRU,
    "aten.rnn_tanh.input": RNN_TANH,
    "aten.rnn_relu.input": RNN_RELU,
}
"""What torch traces recurrent modules as, and the steps that each is made of."""


class RecurrentError(ParedownError):
    """A recurrent module is of a kind that cannot be taken apart."""


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """The nodes of a recurrent module; `results` names its outputs: states, and each last state."""

    nodes: tuple[Node, ...]
    results: tuple[str, ...]


@dataclass
class _Writer:
    """Writes nodes under names that begin with the traced operator's."""

    name: str
    nodes: list[Node] = field(default_factory=list)

    def put(self, suffix: str, op: str, *args: Arg) -> Ref:
        """Writes one node and gives the reference to its value."""
        self.nodes.append(Node(name=f"{self.name}{suffix}", op=op, args=args, shape=()))
        return Ref(self.nodes[-1].name)


def unroll(name: str, traced: str, args: Sequence[Arg]) -> Unrolled:
    """The nodes for one traced operator.

    Args:
        name: Of its value in the trace.
        traced: One of `RECURRENT`.
        args: As traced, with None for initial states that are zero: (x, states, parameters, has_biases,
            layers, dropout, train, bidirectional, batch_first).

    Raises:
        RecurrentError: An LSTM with projections (`proj_size`).
    """
    x, states, parameters, has_biases, layers, _, _, bidirectional, batch_first = args
    directions, each = 1 + bool(bidirectional), 4 if has_biases else 2
    if len(parameters) != layers * directions * each:
        raise RecurrentError(
            f"a recurrent layer (value {name!r}) must have no projections, got "
            f"{len(parameters) // (layers * directions)} parameters each instead of {each}; "
            "set proj_size=0"
        )
    op, writer = RECURRENT[traced], _Writer(name)
    is_lstm = op == LSTM
    given = tuple(states) if is_lstm else (states,)
    value = writer.put("_x", TRANSPOSE, x, 0, 1) if batch_first else x
    last: list[list[Ref]] = [[] for _ in given]
    for layer in range(layers):
        outputs: list[Arg] = []
        for direction in range(directions):
            index = layer * directions + direction
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            over_inputs, over_state, *biases = parameters[index * each : (index + 1) * each]
            first, second = biases or (None, None)
            gates = writer.put(f"{suffix}_gates", GATES, value, over_inputs, first)
            starts = [
                None if s is None else writer.put(f"{suffix}_from{i}", SELECT, s, 0, index)
                for i, s in enumerate(given)
            ]
            rest = (bool(direction), None) if is_lstm else (bool(direction),)
            steps = writer.put(suffix, op, gates, *starts, over_state, second, *rest)
            every = writer.put(f"{suffix}_states", GETITEM, steps, 0) if is_lstm else steps
            outputs.append(every)
            end = writer.put(f"{suffix}_last", SELECT, every, 0, 0 if direction else -1)
            last[0].append(end)
            if is_lstm:
                last[1].append(writer.put(f"{suffix}_cell", GETITEM, steps, 1))
        value = writer.put(f"_l{layer}_both", CAT, tuple(outputs), 2) if direction else outputs[0]
    value = writer.put("_y", TRANSPOSE, value, 0, 1) if batch_first else value
    ends = [writer.put(f"_end{i}", STACK, tuple(refs), 0).name for i, refs in enumerate(last)]
    return Unrolled(nodes=tuple(writer.nodes), results=(value.name, *ends))
