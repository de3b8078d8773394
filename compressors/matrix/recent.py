"""What was made from the last few tensors, found again by the tensors' identity."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from torch import Tensor

T = TypeVar("T")


class Recent(Generic[T]):
    """The last `size` results of an expensive function of tensors.

    Choices of one layer share its weight and its Gram matrix, and so whatever is made from those
    alone. Tensors are told apart by where they lie and by their count of in-place changes; they are
    held beside their result, so that no other tensor can take their place. A result must not be
    changed by who gets it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: tuple[tuple[Hashable, tuple[Tensor, ...], T], ...] = ()

    def get(self, make: Callable[[], T], *tensors: Tensor, facts: Hashable = ()) -> T:
        """What `make` gave for these very tensors and `facts` before, or gives now."""
        key = (facts, *map(_identity, tensors))
        found = next((entry for entry in self._held if entry[0] == key), None)
        if found is None:
            found = (key, tensors, make())
        others = tuple(entry for entry in self._held if entry[0] != key)
        self._held = (*others, found)[-self._size :]
        return found[2]


def _identity(tensor: Tensor) -> Hashable:
    place = (tensor.device, tensor.data_ptr(), tensor._version)
    return (*place, tensor.dtype, tuple(tensor.shape), tensor.stride())
