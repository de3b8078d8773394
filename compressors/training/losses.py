"""What training minimises: how far outputs, and values on the way, are from the uncompressed network's.

Logits by their Kullback-Leibler divergence at a temperature (Hinton, Vinyals and Dean 2015,
arXiv:1503.02531), other outputs by squared error as a share of their variance; outputs of blocks
likewise (FitNets, Romero et al. 2015, arXiv:1412.6550, where widths are equal); and by the alignment of
their kernels (Cortes, Mohri and Rostamizadeh 2012), which compares values of different widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.trainer import Batch, Targets, TrainingData
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Graph, Node
from paredown.spaces.graph.names import ADD

_TINY = 1e-12
_MOST_BYTES = 2**28
"""Answers of the uncompressed network that are kept; those of further rows are computed each time."""
Answers = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""Outputs of a network, and its values of some nodes by name."""
_IGNORED = -100
"""The class number that losses leave out, at padding for instance; PyTorch's own."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each part of the loss counts: the sum of weight times part is minimised."""

    logits: float = 1.0
    labels: float = 0.0
    blocks: float = 0.0
    kernels: float = 0.0
    temperature: float = 2.0

    @property
    def text(self) -> str:
        """The parts that count.

        >>> LossWeights(blocks=0.5).text
        '1 logits (temperature 2) + 0.5 blocks'
        """
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "temperature"}
        return " + ".join(
            f"{w:g} {name}" + f" (temperature {self.temperature:g})" * (name == "logits")
            for name, w in parts.items()
            if w
        )


class Objective:
    """The loss of a batch, with the uncompressed network's answers computed once where they stay.

    Args:
        graph: Of the model that trains; blocks are compared where both networks have them.
    """

    def __init__(self, weights: LossWeights, data: TrainingData, graph: Graph) -> None:
        self._weights = weights
        self._data = data
        self._known: dict[int, tuple[Tensor, ...]] = {}
        self._held = 0
        compares = weights.blocks or weights.kernels
        self.watched = _blocks(graph, data.reference.blueprint.graph) if compares else frozenset()

    def __call__(
        self, batch: Batch, outputs: tuple[Tensor, ...], seen: Mapping[str, Tensor]
    ) -> Tensor:
        """The loss, shape ().

        Args:
            outputs: Of the model that trains, for the batch.
            seen: Its values of the nodes in `watched`.
        """
        compares = self._weights.logits or self.watched
        reference = self._reference(batch) if compares else None
        # Losses are float32 whatever the networks compute in: the user's too, and products of kernels.
        with torch.autocast(outputs[0].device.type, enabled=False):
            return self._total(batch, tuple(map(_whole, outputs)), seen, reference)

    def _total(
        self,
        batch: Batch,
        outputs: tuple[Tensor, ...],
        seen: Mapping[str, Tensor],
        reference: Answers | None,
    ) -> Tensor:
        weights = self._weights
        total = outputs[0].new_zeros(())
        if weights.labels:
            total = total + weights.labels * self._data.loss(outputs, batch.targets)
        if reference is None:
            return total
        wanted, blocks = reference
        if weights.logits:
            dim = self._data.class_dim
            counted = None if dim is None else _counted(outputs[0], batch.targets, dim)
            far = distance(outputs, wanted, dim, weights.temperature, counted)
            total = total + weights.logits * far
        # Values of one name that are of another size (of narrowed layers) can only be aligned.
        alike = [(x, blocks[n]) for n, x in seen.items() if x.shape == blocks[n].shape]
        if weights.blocks and alike:
            total = total + weights.blocks * _mean([relative_error(x, y) for x, y in alike])
        if weights.kernels and seen:
            parts = [1 - kernel_alignment(x, blocks[name]) for name, x in seen.items()]
            total = total + weights.kernels * _mean(parts)
        return total

    def remember(self, batch: Batch) -> None:
        """Computes the uncompressed network's answers where they are to be computed once."""
        if self._weights.logits and not self.watched and batch.rows is not None:
            self._reference(batch)

    def _reference(self, batch: Batch) -> Answers:
        if batch.rows is None or self.watched:
            return answers(self._data.reference, batch.inputs, self.watched)
        numbers = batch.rows.tolist()
        if any(number not in self._known for number in numbers):
            found, _ = answers(self._data.reference, batch.inputs, frozenset())
            if self._held + sum(x.nbytes for x in found) > _MOST_BYTES:
                return found, {}
            self._held += sum(x.nbytes for x in found)
            self._known.update(zip(numbers, zip(*found, strict=True), strict=True))
        rows = [self._known[number] for number in numbers]
        return tuple(torch.stack(part) for part in zip(*rows, strict=True)), {}


def distance(
    outputs: tuple[Tensor, ...],
    wanted: tuple[Tensor, ...],
    class_dim: int | None,
    temperature: float,
    counted: Tensor | None = None,
) -> Tensor:
    """How far outputs are from those wanted, shape ().

    Args:
        class_dim: The dimension of the first output that holds the logits of classes; None where the
            outputs are no logits: then all are compared by `relative_error`.
        temperature: What logits are divided by.
        counted: Which places of the logits count, without `class_dim`; None where all do.
    """
    if class_dim is None:
        return _mean([relative_error(x, y) for x, y in zip(outputs, wanted, strict=True)])
    log_p = F.log_softmax(outputs[0].float() / temperature, dim=class_dim)
    log_q = F.log_softmax(wanted[0].float() / temperature, dim=class_dim)
    each = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=class_dim)
    mean = each.mean() if counted is None else (each * counted).sum() / counted.sum().clamp_min(1)
    return mean * temperature**2


def _counted(logits: Tensor, targets: Targets, class_dim: int) -> Tensor | None:
    """Where targets are class numbers of the logits' own places, those that the task's loss counts."""
    places = logits.select(class_dim, 0).shape
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.shape != places:
        return None
    counted = targets != _IGNORED
    return None if bool(counted.all()) else counted


def _whole(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x


def relative_error(x: Tensor, wanted: Tensor) -> Tensor:
    """Squared error as a share of the variance of what is wanted, shape ()."""
    x, wanted = x.float(), wanted.float()
    return F.mse_loss(x, wanted) / wanted.var(correction=0).clamp_min(_TINY)


def kernel_alignment(x: Tensor, wanted: Tensor) -> Tensor:
    """Centred kernel alignment of two batches of values, 1 where they are alike up to rotation."""
    a, b = (v.float().flatten(1) for v in (x, wanted))
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    one, other = a @ a.T, b @ b.T
    return (one * other).sum() / (one.norm() * other.norm()).clamp_min(_TINY)


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean()


def answers(
    model: CompressedModel, inputs: tuple[Tensor, ...], watched: frozenset[str]
) -> Answers:
    """The model's outputs without gradients, and the values of the nodes named in `watched`."""
    seen: dict[str, Tensor] = {}

    def _after(node: Node, _: Arguments, output: Result) -> Result:
        if node.name in watched and isinstance(output, Tensor):
            seen[node.name] = output
        return output

    with torch.no_grad():
        return model(inputs, after=_after), seen


def _blocks(graph: Graph, reference: Graph) -> frozenset[str]:
    """Sums of two values, where residual blocks end, in both graphs; all their layers without one."""
    common = [node for node in graph.nodes if node.name in reference.by_name]
    sums = {n.name for n in common if n.op == ADD and len(set(n.inputs) & graph.values) == 2}
    layers = {n.name for n in common if n.facts.layer is not None}
    return frozenset(sums or layers)
