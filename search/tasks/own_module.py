"""The user's module as it is searched: without wrappers, in float32, on the CPU, in eval mode."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from paredown.spaces.system.errors import ParedownError

_PREFIXES = ("module.", "_orig_mod.")
"""What wrappers put before the names of the tensors inside them."""


class ModuleError(ParedownError):
    """What a model factory returned, or its weights, cannot be used."""


def fit_module(made: object, named: str) -> tuple[nn.Module, list[str]]:
    """The network in what a factory returned, and one sentence for each thing that was changed.

    The network is changed in place: a factory makes it for the search alone.

    Args:
        named: Where it comes from, such as "task.model: my.models:make".

    Raises:
        ModuleError: It is no module, or its tensors hold no values yet.
    """
    if not isinstance(made, nn.Module):
        raise ModuleError(
            f"{named} must return an nn.Module, got {_kind(made)}; return the network itself"
        )
    notices = []
    module, wrappers = _unwrapped(made)
    if wrappers:
        notices.append(f"{named}: the network inside {' and '.join(wrappers)} is taken")
    if isinstance(module, torch.jit.ScriptModule):
        raise ModuleError(
            f"{named} must return a module of Python code, got a TorchScript one; return the "
            "nn.Module that it was made from"
        )
    _check_have_values(module, named)
    tensors = [tensor for _, tensor in _named_tensors(module)]
    types = {_short(t.dtype) for t in tensors if t.is_floating_point()} - {"float32"}
    if types:
        notices.append(f"{named}: tensors of {' and '.join(sorted(types))} are taken as float32")
    places = {t.device.type for t in tensors} - {"cpu"}
    if places:
        notices.append(f"{named}: the network is moved from {' and '.join(sorted(places))} to cpu")
    return module.float().cpu().eval(), notices


def check_values(module: nn.Module, named: str) -> None:
    """Refuses weights that are no numbers.

    Raises:
        ModuleError: A parameter holds NaN or infinity, or a buffer holds NaN.
    """
    parameters = dict(module.named_parameters())
    for name, tensor in _named_tensors(module):
        # A buffer may hold a mask of -inf.
        bad = ~tensor.isfinite() if name in parameters else tensor.isnan()
        if bad.any():
            raise ModuleError(
                f"{named}: the weights must be finite numbers, got {int(bad.sum())} of "
                f"{tensor.numel()} in {name} that are not; train or load them again"
            )


def without_wrappers(tensors: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Tensors of a file by the names that the network has, where a wrapper was saved around it."""
    found = {}
    for name, tensor in tensors.items():
        inner = name
        while inner not in known and inner.startswith(_PREFIXES):
            inner = inner.partition(".")[2]
        found[inner if inner in known else name] = tensor
    return found


def load_weights(module: nn.Module, path: Path) -> None:
    """Fills `module` from a safetensors file; every tensor must fit.

    Raises:
        ModuleError: The file is no safetensors file, or names or shapes differ.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModuleError(
            f"weights must be a safetensors file, got {path}: {error}; "
            "write it with safetensors.torch.save_model"
        ) from error
    tensors = without_wrappers(tensors, module.state_dict().keys())
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        # A line for the whole and one for each tensor, of which the first says it all.
        lines = [line.strip() for line in str(error).splitlines()]
        more = f" and {len(lines) - 2} more" if len(lines) > 2 else ""
        raise ModuleError(
            f"weights {path.name} must fit {type(module).__name__}, got {' '.join(lines[1:2])}"
            f"{more}; check model and kwargs"
        ) from error
    missing = [name for name in missing if not _may_miss(module, name, tensors)]
    if missing or unexpected:
        raise ModuleError(
            f"weights {path.name} must name the tensors of {type(module).__name__}, got "
            f"{len(missing)} missing {missing[:4]} and {len(unexpected)} unknown "
            f"{unexpected[:4]}; check model and kwargs"
        )


def _unwrapped(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """The module without what is wrapped around it, and the kinds of that."""
    kinds = []
    while True:
        if isinstance(module, DataParallel | DistributedDataParallel):
            kinds.append(type(module).__name__)
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            # Known by its attribute: importing its class would load the whole compiler.
            kinds.append("torch.compile")
            module = inner
        else:
            return module, kinds


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _check_have_values(module: nn.Module, named: str) -> None:
    for name, tensor in _named_tensors(module):
        if is_lazy(tensor):
            raise ModuleError(
                f"{named} must return a network whose tensors have their shapes, got the lazy {name}; "
                "call it once on a row, or use layers with fixed sizes"
            )
        if tensor.is_meta:
            raise ModuleError(
                f"{named} must return a network whose tensors hold values, got {name} on the meta "
                "device; make it on the CPU and load its weights"
            )


def _kind(made: object) -> str:
    if isinstance(made, type):
        return f"the class {made.__name__}"
    if made is None:
        return "None"
    return f"{type(made).__name__}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _may_miss(module: nn.Module, name: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    # save_model leaves out the second name of a shared tensor, and eval mode reads no counter.
    state = module.state_dict()
    place = state[name].data_ptr()
    is_shared = any(other in tensors and state[other].data_ptr() == place for other in state)
    return name.endswith("num_batches_tracked") or (place != 0 and is_shared)
