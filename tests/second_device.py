"""A second device that computes: its tensors refuse to meet the CPU's, as a GPU's do.

Values lie in a CPU tensor inside, so results are those of the CPU bit for bit. It goes under the name
"meta", the one device beside the CPU that every build of torch has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

SECOND = torch.device("meta")
# As on a GPU: positions may come from the CPU, and copies go from one device to the other.
_MAY_MIX = ("aten::index", "aten::_index_put_impl_", "aten::index_put_", "aten::copy_")


class Elsewhere(Tensor):
    """A tensor of the second device; `inner` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=SECOND,
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        """As of any device, which torch leaves out for subclasses."""
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """`torch.tensor` has an empty tensor for "meta"; here it is filled."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") == SECOND:
            return torch.tensor(*args, **(kwargs | {"device": "cpu"})).to(SECOND)
        return func(*args, **kwargs)


class SecondDevice(TorchDispatchMode):
    """While it is entered there is a second device."""

    def __enter__(self) -> SecondDevice:
        self._made = _Made()
        self._made.__enter__()
        return super().__enter__()

    def __exit__(self, *ending: Any) -> None:
        super().__exit__(*ending)
        self._made.__exit__(*ending)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def _computed(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, dict(kwargs))) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, Elsewhere)]
    here = [x for x in tensors if not isinstance(x, Elsewhere)]
    assert all(x.device == torch.device("cpu") for x in here), "a tensor without values"
    name = func._schema.name
    if there and any(x.ndim for x in here):
        positions_there = name.startswith("aten::index") and not isinstance(args[0], Elsewhere)
        if name not in _MAY_MIX or positions_there:
            raise AssertionError(f"{name} is given tensors of two devices")
    asked = kwargs.get("device")
    goes_there = bool(there) if asked is None else torch.device(asked) == SECOND
    inner_args, inner_kwargs = tree_map_only(
        Elsewhere, lambda x: x.inner, (tuple(args), dict(kwargs))
    )
    if asked is not None:
        inner_kwargs["device"] = torch.device("cpu")
    found = func(*inner_args, **inner_kwargs)
    if name.endswith("_") and args and isinstance(args[0], Tensor):
        return args[0]
    return tree_map_only(Tensor, Elsewhere, found) if goes_there else found
