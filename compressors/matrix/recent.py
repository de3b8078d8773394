"""The last few results of an expensive function, by what was asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Recent(Generic[K, T]):
    """The `size` results used last; the object that a result was made from holds it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[K, T] = OrderedDict()

    def get(self, key: K, make: Callable[[], T]) -> T:
        """What `make` gave for `key` before, or gives now; it must not be changed in place."""
        if key not in self._held:
            self._held[key] = make()
            if len(self._held) > self._size:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]
