"""What a model returns, around the tensors that a graph computes: dicts, tuples, constants, None.

A graph knows its outputs as a plain tuple. The user's metric and loss are written for what their model
returns, so it is put together again for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paredown.search.tasks.splits import Inputs
from paredown.search.tasks.user_calls import called
from paredown.spaces.graph.choosing import OutputsError, choose_outputs, left_out
from paredown.spaces.system.errors import ParedownError

_ROWS = 2
"""Rows of the example that shows which outputs belong to rows."""
_CLOSE = 1e-2
"""Share of the largest output that a row may be off beside other rows."""
_NAMED = 6
"""At most so many outputs that are left out are named."""
_REMEDY = "correct it, or give rows that it takes: a `prepare` of the data can make them so"
_PLAIN = (type(None), bool, int, float, str)


class OutputError(ParedownError):
    """A model returns what cannot be scored."""


@dataclass(frozen=True)
class Rows:
    """Stands in a form for a tensor with the batch first: the graph's output at `position`."""

    position: int


@dataclass(frozen=True)
class OutputForm:
    """How the tensors of a graph's outputs lie in what the model returns.

    `template` is that with `Rows` for every tensor with the batch first; all else in it is constant.
    """

    template: pytree.PyTree = Rows(0)

    def rebuilt(self, outputs: Sequence[Tensor]) -> pytree.PyTree:
        """What the model returns, with these tensors in the order of the graph's outputs."""
        return pytree.tree_map_only(Rows, lambda rows: outputs[rows.position], self.template)

    def tensors(self, returned: pytree.PyTree) -> tuple[Tensor, ...]:
        """The tensors with the batch first in what the model returned: the inverse of `rebuilt`."""
        pairs = zip(pytree.tree_leaves(returned), pytree.tree_leaves(self.template), strict=True)
        return tuple(value for value, leaf in pairs if isinstance(leaf, Rows))

    def agrees_with(self, other: OutputForm) -> bool:
        """Whether a metric can take the outputs of both."""
        ours, theirs = (pytree.tree_flatten(form.template) for form in (self, other))
        same = [isinstance(x, Rows) for x in ours[0]] == [isinstance(x, Rows) for x in theirs[0]]
        return same and ours[1] == theirs[1]


def forward(module: nn.Module, inputs: Inputs, named: str) -> pytree.PyTree:
    """What the user's module returns for these rows, without gradients.

    Args:
        named: What in the config the module comes from, such as "task.model".

    Raises:
        UserCodeError: It raises; the message says how the rows look.
    """
    signature = inspect.signature(module.forward)
    call = f"{named}: {type(module).__name__}.forward{signature}, given {_described(inputs)},"
    # Compiling for a handful of rows would take minutes.
    with called(call, _REMEDY), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return module(**inputs) if isinstance(inputs, dict) else module(*inputs)


def choose(module: nn.Module, names: Sequence[str], inputs: Inputs, named: str) -> list[str]:
    """Has the module return the outputs that a task needs; a sentence says what is left out.

    Args:
        names: Their paths, as `chosen_outputs` takes them; none leaves the choice to its rule.

    Raises:
        UserCodeError: The module raises.
        OutputError: A path leads to no tensor.
    """
    returned = forward(module, _first(inputs, _ROWS), named)
    named = f"{named}: {type(module).__name__}"
    try:
        others = left_out(returned, names)
    except OutputsError as error:
        raise OutputError(f"{named}: {error}") from None
    if not others and not names:
        return []
    choose_outputs(module, names)
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    left = f", without {', '.join(others[:_NAMED])}{more}; set task.outputs for others"
    kept = ", ".join(names) or "its first tensor"
    return [f"{named}: the output is {kept}{left if others else ''}"]


def read_form(module: nn.Module, inputs: Inputs, named: str) -> OutputForm:
    """The form of what `module` returns for these rows, at least one.

    Raises:
        UserCodeError: The module raises.
        OutputError: There is nothing to score in what it returns, or rows depend on each other.
    """
    two, one = _first(inputs, _ROWS), _first(inputs, 1)
    returned, alone = forward(module, two, named), forward(module, one, named)
    named = f"{named}: {type(module).__name__}"
    leaves, structure = pytree.tree_flatten(returned)
    others = pytree.tree_leaves(alone)
    if len(others) != len(leaves):
        raise OutputError(
            f"{named} must return as many outputs for one row as for {_ROWS}, got {len(others)} and "
            f"{len(leaves)}"
        )
    found: list[object] = []
    for value, for_one_row in zip(leaves, others, strict=True):
        position = sum(isinstance(leaf, Rows) for leaf in found)
        constant = value.detach().clone() if isinstance(value, Tensor) else value
        found.append(Rows(position) if _is_of_rows(value, for_one_row, named) else constant)
    if not any(isinstance(leaf, Rows) for leaf in found):
        raise OutputError(
            f"{named} must return at least one tensor with the batch first, got "
            f"{type(returned).__name__}; return the logits"
        )
    form = OutputForm(pytree.tree_unflatten(found, structure))
    both, single = form.tensors(returned), form.tensors(alone)
    are_alike = all(_is_close(x[:1], y) for x, y in zip(both, single, strict=True))
    # A module that is random even so is none whose rows depend on each other.
    if not are_alike and all(map(_is_close, form.tensors(forward(module, two, named)), both)):
        raise OutputError(
            f"{named} must return the same for a row whatever else is in its batch, got other values "
            "for a row alone than beside another; take no mean or maximum over the batch in eval mode"
        )
    return form


def _is_of_rows(value: object, for_one_row: object, named: str) -> bool:
    """Whether an output has the batch first; else it must be a constant."""
    if isinstance(value, Tensor) and isinstance(for_one_row, Tensor):
        if value.dim() and len(value) == _ROWS and for_one_row.dim() and len(for_one_row) == 1:
            return True
        if value.shape == for_one_row.shape and torch.equal(value, for_one_row):
            return False
        raise OutputError(
            f"{named} must return tensors with the batch first or constants, got one of shape "
            f"{tuple(value.shape)} for {_ROWS} rows and {tuple(for_one_row.shape)} for one; return "
            "values of rows, and leave out what is computed over a batch, such as a loss"
        )
    if isinstance(value, _PLAIN) and value == for_one_row:
        return False
    raise OutputError(
        f"{named} must return tensors, constants or None, in tuples or dicts, got "
        f"{value!r:.60} ({type(value).__name__}) for {_ROWS} rows and {for_one_row!r:.60} for one; "
        "return the tensors themselves"
    )


def _is_close(found: Tensor, expected: Tensor) -> bool:
    """Whether the values are equal but for rounding, which may differ with the batch size."""
    if found.shape != expected.shape or not expected.numel():
        return found.shape == expected.shape
    # Values that are not finite are judged when the split is scored.
    error = (found.double() - expected.double()).abs().nan_to_num(0, 0, 0).max()
    return bool(error <= _CLOSE * expected.double().abs().nan_to_num(0, 0, 0).max())


def _first(inputs: Inputs, count: int) -> Inputs:
    """The first rows, repeated where there are fewer."""
    if isinstance(inputs, dict):
        return {name: _at(x, count) for name, x in inputs.items()}
    return [_at(x, count) for x in inputs]


def _at(x: Tensor, count: int) -> Tensor:
    return x[torch.arange(count) % len(x)]


def _described(inputs: Inputs) -> str:
    """Number of rows, with type and shape of one.

    >>> _described([torch.zeros(2, 3, 8, 8)])
    '2 rows of float32 (3, 8, 8)'
    """
    tensors = list(inputs.values()) if isinstance(inputs, dict) else inputs
    rows = [f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape[1:])}" for x in tensors]
    if isinstance(inputs, dict):
        rows = [f"{name}: {row}" for name, row in zip(inputs, rows, strict=True)]
    count = len(tensors[0])
    return f"{count} row{'s' * (count != 1)} of {', '.join(rows)}"
