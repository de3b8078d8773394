"""A compressed model as a torch module that learns: what it computes is what would be exported now.

Codes are held by quantisers, floats by parameters, scales of 8-bit tensors by factors. `freeze` gives the
compressed model of the moment, with the same operators, the same storage and the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from paredown.compressors.models.codes import fit_biases
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.activations import Activations, LearnedScales, with_scales
from paredown.compressors.training.norms import LiveNorms, Norms
from paredown.compressors.training.quantizers.quantizer import (
    Learned,
    WeightQuantizer,
    size_of_values,
)
from paredown.compressors.training.quantizers.table import QUANTIZERS
from paredown.compressors.training.straight_through import LearnedScale, differentiable
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Graph, Node, Ref, run


@dataclass(frozen=True, kw_only=True)
class View:
    """How a compressed model is made trainable.

    Args:
        quantizer: A name of `QUANTIZERS`: how codes of weights are found while they train.
        activations: Whether scales of 8-bit activations learn, and by whose gradient (`activations.py`);
            ranges that are found in each run have none.
        norms: Whether layers that can take up a batch norm have a live one behind them (`norms.py`).
    """

    quantizer: str = "lsq"
    activations: Activations = "lsq"
    norms: Norms = "folded"


class Trainable(nn.Module):
    """A compressed model whose weights, scales, biases and norms learn.

    What learns: the weight and bias of every layer (convolutions, linear layers, embeddings, gates,
    factors of low-rank chains) and of every norm, and scales of 8-bit activations. The network's own
    norms work with the statistics that are stored; live ones with those of the batch in training mode,
    and as they are frozen in eval mode. Masks and tables of constants stay.

    Args:
        model: Where training starts; it is not changed.
        reference: Tensors of the uncompressed network by name. Latent weights of tensors that are still
            whole start as near to those as the codes allow.
    """

    def __init__(
        self,
        model: CompressedModel,
        view: View | None = None,
        reference: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.view = view or View()
        factory, known = QUANTIZERS[self.view.quantizer], reference or {}
        self.norms = LiveNorms(model, self.view.norms)
        learned = set(learned_names(model)) - self.norms.biases
        self._quantizers: dict[str, WeightQuantizer] = {}
        self._floats: dict[str, nn.Parameter] = {}
        for name, tensor in model.stored.items():
            if tensor.scale is not None:
                self._quantizers[name] = self._registered(name, factory(tensor, known.get(name)))
            elif name in learned:
                self._floats[name] = nn.Parameter(tensor.values.clone())
                self.register_parameter(_attribute(name), self._floats[name])
            else:
                self.register_buffer(_attribute(name), tensor.values, persistent=False)
        self.scales = LearnedScales(model.blueprint.graph, self.view.activations)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs in the order of the graph's, with gradients."""
        return self.run(inputs)[0]

    def run(
        self, inputs: Sequence[Tensor], watched: frozenset[str] = frozenset()
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Outputs, and the values of the nodes named in `watched`."""
        scales = {
            name: LearnedScale(scale, self.scales.by_rounding)
            for name, scale in self.scales.by_node().items()
        }
        seen: dict[str, Tensor] = {}

        def _compute(node: Node, arguments: Arguments) -> Result:
            return self.norms.behind(node, arguments, partial(differentiable, scales=scales))

        def _after(node: Node, _: Arguments, output: Result) -> Result:
            if node.name in watched and isinstance(output, Tensor):
                seen[node.name] = output
            return output

        outputs = run(self._graph, self._tensors(), inputs, _after, _compute)
        return outputs, seen

    def learned(self) -> Iterator[Learned]:
        """Every parameter once, with the size that its learning rate is a share of."""
        for quantizer in self._quantizers.values():
            yield from quantizer.learned()
        for parameter in self._floats.values():
            yield Learned(parameter, size_of_values(parameter.detach()))
        yield from self.norms.learned()
        yield from self.scales.learned()

    def averaged(self) -> Iterator[tuple[str, Tensor]]:
        """What averages over steps are of, by names of the state: parameters and statistics of norms."""
        yield from self.named_parameters()
        yield from self.norms.named_buffers(prefix="norms")

    def observe(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """Starts live norms with the statistics of these inputs; what the model computes stays."""
        if self.norms.biases:
            self.norms.observe(self.freeze(), batches)

    def after_step(self) -> None:
        """To be called behind every step of the optimiser."""
        with torch.no_grad():
            for quantizer in self._quantizers.values():
                quantizer.after_step()
        self._mask()

    def project(self) -> None:
        """To be called where parameters were put in from outside, as averages of earlier ones."""
        with torch.no_grad():
            for quantizer in self._quantizers.values():
                quantizer.project()
        self._mask()

    def _mask(self) -> None:
        with torch.no_grad():
            for name, parameter in self._floats.items():
                mask = self.model.stored[name].mask
                if mask is not None:
                    parameter.mul_(mask)

    def pull(self, strength: float) -> None:
        """Moves latent weights by this share of the way to the middle of their codes."""
        with torch.no_grad():
            for quantizer in self._quantizers.values():
                quantizer.pull(strength)

    def rank(self, progress: float) -> None:
        """Chooses anew which weights of sparse tensors stay; to be called now and then."""
        with torch.no_grad():
            for quantizer in self._quantizers.values():
                quantizer.rank(progress)

    def freeze(self) -> CompressedModel:
        """The compressed model of now, its biases in the units that the exported file has them in."""
        stored = {name: self._stored(name, each) for name, each in self.model.stored.items()}
        blueprint = with_scales(self.model.blueprint, self.scales.now())
        folded = self.norms.folded(stored)
        return fit_biases(CompressedModel(blueprint=blueprint, stored=folded))

    @property
    def _graph(self) -> Graph:
        return self.model.blueprint.graph

    def _tensors(self) -> dict[str, Tensor]:
        return {
            name: self._quantizers[name]()
            if name in self._quantizers
            else cast("Tensor", getattr(self, _attribute(name)))
            for name in self.model.stored
        }

    def _stored(self, name: str, before: StoredTensor) -> StoredTensor:
        if name in self._quantizers:
            return self._quantizers[name].stored()
        if name in self._floats:
            return replace(before, values=self._floats[name].detach().clone())
        return before

    def _registered(self, name: str, quantizer: WeightQuantizer) -> WeightQuantizer:
        self.add_module(_attribute(name), cast("nn.Module", quantizer))
        return quantizer


def learned_names(model: CompressedModel) -> Iterator[str]:
    """Stored tensors of floats that layers and norms compute with."""
    graph = model.blueprint.graph
    for operator in model.blueprint.operators:
        yield operator.weight
        yield from _bias(graph.by_name[operator.node], model)
    for node in graph.nodes:
        if node.facts.kind == "norm" and node.facts.weight is not None:
            for argument in node.args[node.facts.weight : node.facts.weight + 2]:
                if isinstance(argument, Ref) and argument.name in model.stored:
                    yield argument.name


def _bias(node: Node, model: CompressedModel) -> Iterator[str]:
    assert node.facts.layer is not None
    position = node.facts.layer.bias
    argument = None if position is None else node.args[position]
    if isinstance(argument, Ref) and argument.name in model.stored:
        yield argument.name


def _attribute(name: str) -> str:
    """A tensor's name as modules allow it; the prefix keeps it clear of their own attributes."""
    return f"tensor_{name.replace('.', '|')}"
