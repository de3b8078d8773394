"""Layers solved again for the inputs they really get, towards the outputs they should give.

Every layer of a compressed model reads what the layers before it have become. In one pass over the
calibration inputs each layer's weight is fitted by least squares to the dense layer's outputs under
those inputs, and then pruned and quantised as its choice asks. The idea is that of GPTQ's true
sequential order, extended to errors already made (GPTAQ: Li et al. 2025, arXiv:2504.02692) and to
channels and blocks that are gone. ResNet-20, points lost on 3,000 images with nothing repaired, with
moments restored alone, and refitted (`benchmarks/compressors/refit.py`): without layer1.0 11.5, 1.8 and
0.6, without layer3.2 38.3, 18.3 and 8.1; layer3.0 at half width 12.2, 5.7 and 1.8; 2-bit weights 16.8,
3.3 and 2.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.methods import Compressed, Problem, compress
from paredown.compressors.layers.narrowed import row_curvature
from paredown.compressors.layers.repair import MomentRestorer
from paredown.compressors.matrix.algebra import (
    DAMPING,
    from_matrix,
    row_errors,
    split_groups,
    to_matrix,
)
from paredown.compressors.rounding.descent import descend_codes
from paredown.compressors.rounding.groupwise import refit_scales, settle_groups
from paredown.compressors.rounding.quantize import Codes
from paredown.compressors.rounding.target import Target
from paredown.compressors.statistics.patches import sampled_columns, sampled_outputs
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Operator
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Node, call, run
from paredown.spaces.structure.model_map import Layer

_MOST_POSITIONS = 8_192
_MOST_VALUES = 2**22
"""Sampled outputs kept of each layer: 16 MiB of float32."""
_SETTLED = ("adaround", "obq", "descent", "joint")
"""Slow methods: from their codes it is a few sweeps to those for the inputs that are really seen."""
_SWEEPS = 3
_FEWEST_PER_COLUMN = 2
"""Positions for each weight of a row below which a fit would follow the sample."""


class DenseOutputs:
    """What the dense layers give on the calibration inputs, at sampled positions.

    Made by one pass of the dense model when first asked for. Layers with too few positions for
    their fan-in, embeddings, and weights that several operators read, have none.
    """

    def __init__(self, database: Database, inputs: Sequence[Tensor]) -> None:
        self.inputs = list(inputs)
        self._database = database
        self._outputs: dict[str, Tensor] | None = None

    def of(self, layer: Layer) -> Tensor | None:
        """(out, positions), or None."""
        if self._outputs is None:
            self._outputs = self._collect()
        return self._outputs.get(layer.name)

    def _collect(self) -> dict[str, Tensor]:
        model_map = self._database.model_map
        found: dict[str, Tensor] = {}

        def _after(node: Node, _: Arguments, output: Result) -> Result:
            layer = model_map.layer_by_node.get(node.name)
            if layer is not None and layer.is_product and not layer.is_shared:
                assert isinstance(output, Tensor)
                sampled = sampled_outputs(layer, output, _positions(layer)).clone()
                fan_in = to_matrix(self._database.tensors[layer.weight], layer).shape[1]
                if sampled.shape[1] >= _FEWEST_PER_COLUMN * fan_in:
                    found[layer.name] = sampled
            return output

        with torch.no_grad():
            run(model_map.graph, self._database.tensors, self.inputs, after=_after)
        return found


def _positions(layer: Layer) -> int:
    """How many output positions of a layer are sampled at most."""
    return min(_MOST_POSITIONS, _MOST_VALUES // layer.weight_shape[layer.out_axis])


def refit(
    model: CompressedModel, candidate: Candidate, database: Database, dense: DenseOutputs
) -> CompressedModel:
    """The model with every layer solved again in graph order, or its moments restored.

    Of a low-rank chain the last factor is solved, for what the others make of their inputs. Embeddings,
    steps over time and layers that are called several times stay as they are. Layers that `dense` has no
    outputs of keep their codes; their output moments are put back to the dense model's.
    """
    layers = database.model_map.layer_by_name
    widths = dict(candidate.widths)
    operators = {operator.node: operator for operator in model.blueprint.operators}
    last = {operator.layer: operator for operator in model.blueprint.operators}
    moments, outputs = {}, {}
    for name, operator in last.items():
        layer = layers[name]
        wanted = dense.of(layer)
        if wanted is not None:
            rows = database.kept_rows(layer, widths)
            outputs[operator.node] = wanted if rows is None else wanted[rows]
        elif layer.bias is not None and layer.is_product and not layer.is_shared:
            moments[operator.node] = database.output_moments(layer, widths)
    restorer = MomentRestorer(model, moments)

    def _compute(node: Node, arguments: Arguments) -> Result:
        if node.name not in outputs:
            return call(node, arguments)
        operator = operators[node.name]
        choice = candidate.layer(operator.layer)
        layer = layers[operator.layer]
        rows = database.kept_rows(layer, widths)
        problem = _Layer(
            operator=operator,
            layer=_narrowed(layer, restorer.stored[operator.weight]),
            wanted=outputs[node.name],
            samples=_positions(layer),
            choice=choice,
            row_curvature=row_curvature(database.statistics[layer.name], rows),
        )
        found = _solve(restorer.stored, problem, arguments)
        restorer.stored.update(found)
        return _output(node, arguments, operator, restorer.stored)

    with torch.no_grad():
        model(dense.inputs, after=restorer, compute=_compute)
    return CompressedModel(blueprint=model.blueprint, stored=restorer.stored)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer as it is in the compressed model, and the outputs (R, P) it should give.

    `samples` is the count that `wanted` was sampled with.
    """

    operator: Operator
    layer: Layer
    wanted: Tensor
    samples: int
    choice: LayerChoice
    row_curvature: Tensor | None


def _solve(
    stored: Mapping[str, StoredTensor], problem: _Layer, arguments: Arguments
) -> dict[str, StoredTensor]:
    """The layer's tensors after the fit, or before it where codes would be no nearer."""
    operator, layer = problem.operator, problem.layer
    before = stored[operator.weight]
    inputs = sampled_columns(layer, arguments, problem.samples)
    matrix = to_matrix(before.dense(), layer)
    fit = _Fit.of(matrix, inputs, problem.wanted, centred=operator.bias is not None)
    found = _compressed(fit, problem, before)
    tensors: dict[str, StoredTensor] = {}
    if fit.error(found.dense()) <= fit.error(matrix):
        matrix = found.dense()
        tensors[operator.weight] = _kept(before, found, layer)
    if operator.bias is not None:
        tensors[operator.bias] = StoredTensor.of_floats(fit.bias(matrix))
    return tensors


def _compressed(fit: _Fit, problem: _Layer, before: StoredTensor) -> Compressed:
    """The fitted matrix as the choice asks; what a slow method found is settled, not sought again."""
    choice = problem.choice
    if choice.method not in _SETTLED or before.scale is None:
        target = Target.of(fit.matrix, fit.gram)
        whole = Problem(target=target, row_curvature=problem.row_curvature)
        fast = replace(choice, method="gptq") if choice.method in _SETTLED else choice
        return compress(whole, fast)
    codes = to_matrix(before.values, problem.layer)
    allowed = codes != 0 if choice.zeros.share > 0 else None
    mask = None if before.mask is None else to_matrix(before.mask, problem.layer)
    if before.storage.group_size:
        start = refit_scales(Codes(codes=codes, scale=before.scale), fit.matrix, fit.gram)
        bits = choice.weight_bits
        own = settle_groups(start, fit.matrix, fit.gram, bits, allowed, sweeps=_SWEEPS)
        return Compressed(values=own.codes, scale=own.scale, mask=mask)
    grouped, gram = split_groups(fit.matrix.double(), fit.gram)
    settled, scale = descend_codes(
        grouped,
        gram,
        codes.double().reshape(grouped.shape),
        before.scale.double().reshape(grouped.shape[:2]),
        choice.weight_bits,
        None if allowed is None else allowed.reshape(grouped.shape),
        sweeps=_SWEEPS,
    )
    values = settled.reshape(codes.shape).to(torch.int8)
    return Compressed(values=values, scale=scale.flatten().float(), mask=mask)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """The least-squares matrix (R, K), the Gram it was found under, and the means on both sides."""

    matrix: Tensor
    gram: Tensor
    input_mean: Tensor
    output_mean: Tensor

    @classmethod
    def of(cls, matrix: Tensor, inputs: Tensor, wanted: Tensor, *, centred: bool) -> _Fit:
        """The matrix nearest to `matrix` (R, K) among those that map `inputs` to `wanted`.

        Args:
            inputs: (groups, K, P).
            wanted: (R, P).
            centred: Whether a bias takes the means.
        """
        groups, columns, positions = inputs.shape
        grouped = wanted.reshape(groups, -1, positions)
        input_mean = inputs.mean(dim=2, keepdim=True) * centred
        output_mean = grouped.mean(dim=2, keepdim=True) * centred
        inputs = inputs - input_mean
        start = matrix.reshape(groups, -1, columns)
        missing = grouped - output_mean - start @ inputs
        gram = (inputs @ inputs.transpose(1, 2) / positions).double()
        cross = (missing @ inputs.transpose(1, 2) / positions).double()
        diagonal = gram.diagonal(dim1=1, dim2=2)
        damped = gram + torch.diag_embed(
            (DAMPING * diagonal.mean(dim=1, keepdim=True)).expand_as(diagonal)
            + (diagonal == 0).double()
        )
        change = torch.linalg.solve(damped, cross.transpose(1, 2)).transpose(1, 2)
        fitted = (start.double() + change).reshape(matrix.shape).float()
        return cls(
            matrix=fitted,
            gram=gram if groups > 1 else gram[0],
            input_mean=input_mean[:, :, 0].double(),
            output_mean=output_mean.flatten().double(),
        )

    def error(self, matrix: Tensor) -> float:
        """Mean squared error beyond the fit's own, summed over rows."""
        return float(row_errors(matrix - self.matrix, self.gram).sum())

    def bias(self, matrix: Tensor) -> Tensor:
        """The bias (R,) with which `matrix` gives the wanted means."""
        grouped = matrix.double().reshape(len(self.input_mean), -1, matrix.shape[1])
        given = (grouped @ self.input_mean.unsqueeze(2)).flatten()
        return (self.output_mean - given).float()


def _narrowed(layer: Layer, weight: StoredTensor) -> Layer:
    """The layer as it is in the compressed model; narrower grouped layers are depthwise."""
    shape = tuple(weight.values.shape)
    groups = layer.groups if layer.groups == 1 or shape == layer.weight_shape else shape[0]
    return replace(layer, weight_shape=shape, groups=groups)


def _kept(before: StoredTensor, found: Compressed, layer: Layer) -> StoredTensor:
    mask = None if before.mask is None or found.mask is None else from_matrix(found.mask, layer)
    return replace(
        before,
        values=from_matrix(found.values, layer).contiguous(),
        scale=found.scale,
        mask=None if mask is None else mask.contiguous(),
    )


def _output(
    node: Node,
    arguments: Arguments,
    operator: Operator,
    stored: Mapping[str, StoredTensor],
) -> Tensor:
    """The operator's output with the tensors it has now."""
    bias = None if operator.bias is None else stored[operator.bias].dense()
    weight = stored[operator.weight].dense()
    return cast("Tensor", call(node, (arguments[0], weight, bias, *arguments[3:])))
