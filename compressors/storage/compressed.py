"""A compressed model in memory: a blueprint and the tensors that fill it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Node, run


@dataclass(frozen=True, kw_only=True)
class CompressedModel:
    """What is scored, exported and loaded: the very operators and codes of the file on disk."""

    blueprint: Blueprint
    stored: Mapping[str, StoredTensor]

    @property
    def device(self) -> torch.device:
        """Where its tensors lie, all of them, and where it computes."""
        return next(iter(self.stored.values())).values.device

    def to(self, device: torch.device) -> CompressedModel:
        """The same on `device`."""
        return replace(self, stored={name: each.to(device) for name, each in self.stored.items()})

    @functools.cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor dense, dequantised once: codes as float32, all others of their own type."""
        return {name: stored.dense() for name, stored in self.stored.items()}

    def __call__(
        self,
        inputs: Sequence[Tensor],
        after: Callable[[Node, Arguments, Result], Result] | None = None,
        compute: Callable[[Node, Arguments], Result] | None = None,
    ) -> tuple[Tensor, ...]:
        """Outputs in the order of `blueprint.graph.outputs`; for the hooks see `run`."""
        return run(self.blueprint.graph, self.tensors, inputs, after, compute)
