"""A module from a bundle's graph and tensors: no training code, and nothing executable is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paredown.compressors.storage.checking import check_model, read_operators
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.packing import read_packed
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.graph import Graph, run
from paredown.spaces.graph.graph_json import from_json
from paredown.spaces.system.bounded import as_list, as_mapping, read_json
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.sealed import read_sealed

GRAPH_FILE = "graph.json"
TENSORS_FILE = "model.safetensors"
CARD_FILE = "card.json"

Inputs: TypeAlias = "Tensor | Sequence[Inputs] | Mapping[str, Inputs]"
"""An argument as the model takes it: a tensor, or several nested as they were when it was captured."""
Outputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


class BundleError(ParedownError):
    """A folder is not a bundle, or a module is called with the wrong inputs."""


class CompressedModule(nn.Module):
    """Runs a stored graph: takes and returns what the original model did.

    Tensors are buffers, dense and of the original types, so `.to(device)` moves them. Outputs nested
    in several containers come back as one dict with dotted keys.
    """

    def __init__(self, model: CompressedModel) -> None:
        super().__init__()
        self.graph: Graph = model.blueprint.graph
        self.tensor_names = tuple(model.tensors)
        for position, name in enumerate(self.tensor_names):
            self.register_buffer(f"tensor_{position}", model.tensors[name])

    def forward(self, *args: Inputs, **kwargs: Tensor) -> Outputs:
        """The model's outputs; inputs by position, or by name as keyword arguments.

        Raises:
            BundleError: An input is missing or unknown.
        """
        inputs = self._inputs(args, kwargs)
        tensors = {n: self.get_buffer(f"tensor_{i}") for i, n in enumerate(self.tensor_names)}
        return _assemble(self.graph.output_keys, run(self.graph, tensors, inputs))

    def _inputs(self, args: tuple[Inputs, ...], kwargs: Mapping[str, Tensor]) -> list[Tensor]:
        given = list(pytree.tree_leaves(args))
        names = self.graph.inputs
        rest = names[len(given) :]
        if len(given) > len(names) or set(rest) != set(kwargs):
            raise BundleError(
                f"the model takes the inputs {', '.join(names)}, got {len(given)} by position and "
                f"{sorted(kwargs)} by name; pass each exactly once"
            )
        return given + [kwargs[name] for name in rest]


def load(folder: Path | str) -> CompressedModule:
    """The bundle's model as a module in eval mode.

    Raises:
        BundleError: The folder holds no bundle, or one that is damaged or cannot be run.
    """
    return CompressedModule(load_model(folder)).eval()


def load_model(folder: Path | str) -> CompressedModel:
    """The bundle's model with its codes, scales and storage, as it was exported.

    Raises:
        BundleError: The folder holds no bundle, or one that is damaged or cannot be run.
    """
    path = Path(folder)
    if not (path / GRAPH_FILE).is_file() or not (path / TENSORS_FILE).is_file():
        raise BundleError(
            f"{path} must hold {GRAPH_FILE} and {TENSORS_FILE}; give a bundle's folder"
        )
    try:
        _check_digests(path)
        return _read(path)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        # What parts of the wrong kind raise where they are first used, beside our own errors.
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise BundleError(
            f"{path} must hold the graph and tensors that were exported, but {reason}; copy the "
            "bundle again"
        ) from error


def _read(path: Path) -> CompressedModel:
    data = as_mapping(read_json(path / GRAPH_FILE))
    stored = read_packed(path / TENSORS_FILE)
    blueprint = Blueprint(
        graph=from_json(as_mapping(data["graph"])),
        operators=read_operators(as_list(data["operators"])),
        storage={name: tensor.storage for name, tensor in stored.items()},
    )
    missing = [n for n in blueprint.graph.tensor_names() if n not in stored]
    if missing:
        raise BundleError(f"{TENSORS_FILE} lacks the tensors {', '.join(map(str, missing))}")
    model = CompressedModel(blueprint=blueprint, stored=stored)
    check_model(model)
    return model


def _check_digests(path: Path) -> None:
    """Holds both files against the card beside them; there may be none."""
    if not (path / CARD_FILE).is_file():
        return
    files = as_mapping(read_sealed(path / CARD_FILE).get("files", {}))
    for name in (GRAPH_FILE, TENSORS_FILE):
        if name in files and digest_of(path / name) != files[name]:
            raise BundleError(f"{name} is another file than the one that {CARD_FILE} describes")


def digest_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _assemble(keys: tuple[str, ...], values: tuple[Tensor, ...]) -> Outputs:
    if keys == ("",):
        return values[0]
    if all(key.isdigit() for key in keys):
        return values
    return dict(zip(keys, values, strict=True))
