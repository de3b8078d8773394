"""Chooses outputs from what a module returns: records of libraries hold more than a task needs."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

Returned = Tensor | Mapping[str, "Returned"] | Sequence["Returned"] | float | str | None
"""What a module returns, in containers of Python's own."""


class OutputsError(ValueError):
    """An output is asked for that a module does not return."""


def chosen_outputs(returned: Returned, names: Sequence[str] = ()) -> Returned:
    """What a module returned, in containers of Python's own and without what is no output.

    Containers of Python are left as they are. Of a class that a library made, such as a record of
    logits, hidden states and caches, the first tensor with dimensions is the output.

    Args:
        names: Paths of the outputs, such as "logits" or "hidden_states.0"; one is given as it is,
            several in a dict. None leaves the choice to the rule above.

    Raises:
        OutputsError: A path leads to no tensor.
    """
    if names:
        found = dict(_tensors(returned))
        if missing := [name for name in names if name not in found]:
            raise OutputsError(
                f"an output must be one of {', '.join(found) or 'none'}, got {missing[0]}; set "
                "task.outputs"
            )
        return found[names[0]] if len(names) == 1 else {name: found[name] for name in names}
    if _is_plain(returned):
        return returned
    for _, tensor in _tensors(returned):
        if tensor.dim():
            return tensor
    return returned


def left_out(returned: Returned, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Paths of the tensors and objects in `returned` that `chosen_outputs` leaves out."""
    kept = {id(x) for _, x in _leaves(chosen_outputs(returned, names))}
    return tuple(p for p, x in _leaves(returned) if not (x is None or id(x) in kept))


def choose_outputs(module: nn.Module, names: Sequence[str] = ()) -> None:
    """From now on the module returns what `chosen_outputs` makes of what its forward returns."""
    module.register_forward_hook(_Choice(tuple(names)))


@contextmanager
def choosing(module: nn.Module) -> Iterator[None]:
    """The module as `choose_outputs` makes it, and as it was afterwards."""
    handle = module.register_forward_hook(_Choice(()))
    try:
        yield
    finally:
        handle.remove()


@dataclasses.dataclass(frozen=True)
class _Choice:
    """A hook, of a class of its own so that a module with it can be pickled."""

    names: tuple[str, ...]

    def __call__(
        self, module: nn.Module, inputs: tuple[object, ...], returned: Returned
    ) -> Returned:
        return chosen_outputs(returned, self.names)


def _is_plain(returned: Returned) -> bool:
    """Whether it is made of containers that Python itself has."""
    is_named = isinstance(returned, tuple) and hasattr(returned, "_fields")
    if isinstance(returned, tuple | list) and (is_named or type(returned) in (tuple, list)):
        return all(map(_is_plain, returned))
    if isinstance(returned, Mapping) and type(returned) in (dict, OrderedDict):
        return all(map(_is_plain, returned.values()))
    return returned is None or isinstance(returned, Tensor | bool | int | float | str)


def _tensors(returned: Returned) -> Iterator[tuple[str, Tensor]]:
    return ((path, x) for path, x in _leaves(returned) if isinstance(x, Tensor))


def _leaves(returned: Returned, path: str = "") -> Iterator[tuple[str, Returned]]:
    """What lies in containers and records of any class, with its path; other objects are whole."""
    if isinstance(returned, Mapping):
        inner: Iterable[tuple[str, Returned]] = returned.items()
    elif isinstance(returned, tuple | list):
        fields = getattr(returned, "_fields", range(len(returned)))
        inner = ((str(key), each) for key, each in zip(fields, returned, strict=True))
    elif dataclasses.is_dataclass(returned):
        inner = ((f.name, getattr(returned, f.name)) for f in dataclasses.fields(returned))
    else:
        yield path, returned
        return
    for key, each in inner:
        yield from _leaves(each, f"{path}.{key}" if path else str(key))
