"""Assembles a candidate: its blueprint filled with the database's solutions."""

from __future__ import annotations

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.solution import Factor, Solution
from paredown.compressors.models.codes import fit_biases
from paredown.compressors.models.refit import DenseOutputs, refit
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Blueprint, Storage
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.factors import inner_node
from paredown.spaces.structure.model_map import Layer, ModelMap
from paredown.spaces.structure.quantized_values import Parameters
from paredown.spaces.structure.slicing import slice_tensors


def assemble(candidate: Candidate, database: Database) -> CompressedModel:
    """The compressed model of `candidate`, exactly as it would be exported.

    The identity candidate holds the model's own tensors, bit by bit.
    """
    model_map = database.model_map
    widths = dict(candidate.widths)
    solutions = {
        layer.name: database.solution(layer, choice, widths)
        for layer, choice in _asked(candidate, model_map)
    }
    blueprint = draft(model_map, candidate, _parameters(database, solutions))
    stored = _layer_tensors(blueprint, solutions)
    others = {n: database.tensors[n] for n in blueprint.storage if n not in stored}
    for name, tensor in slice_tensors(model_map, others, database.keep(widths)).items():
        stored[name] = StoredTensor.unchanged(tensor)
    # The exported file does the same, so that what is scored is what is written.
    return fit_biases(CompressedModel(blueprint=blueprint, stored=stored))


def solve_layers(candidate: Candidate, database: Database, *, wait: bool) -> None:
    """Solve what is missing of the candidate's layers, see `Database.solve`."""
    asked = _asked(candidate, database.model_map)
    database.solve(asked, dict(candidate.widths), wait=wait)


def _asked(candidate: Candidate, model_map: ModelMap) -> list[tuple[Layer, LayerChoice]]:
    """The layers that are left, in order, and what is asked of each."""
    present = {operator.layer for operator in draft(model_map, candidate).operators}
    return [
        (layer, candidate.layer(layer.name)) for layer in model_map.layers if layer.name in present
    ]


def needs_refit(candidate: Candidate) -> bool:
    """Whether layers' inputs drift too far for solutions that took them as the dense model's.

    With structure changed, zeros, or weights of 1 or 2 bits they do.
    """
    structural = bool(candidate.widths or candidate.dropped)
    harsh = any(
        c.weight_bits <= 2 or c.rank.share < 1 or c.zeros.share > 0 for _, c in candidate.layers
    )
    return structural or harsh


def settle(
    model: CompressedModel, candidate: Candidate, database: Database, dense: DenseOutputs
) -> CompressedModel:
    """The model with its layers solved again for the inputs they really get, biases as exported."""
    return fit_biases(refit(model, candidate, database, dense))


def _parameters(database: Database, solutions: dict[str, Solution]) -> Parameters:
    found = {name: r.scale_and_zero_point() for name, r in database.ranges.items()}
    for name, solution in solutions.items():
        for node in database.model_map.layer_by_name[name].nodes:
            for index, inner in enumerate(solution.inner):
                found[inner_node(node, index)] = inner.scale_and_zero_point()
    return found


def _layer_tensors(
    blueprint: Blueprint, solutions: dict[str, Solution]
) -> dict[str, StoredTensor]:
    stored: dict[str, StoredTensor] = {}
    for operator in blueprint.operators:
        solution = solutions[operator.layer]
        storage = blueprint.storage[operator.weight]
        stored[operator.weight] = _stored(solution.factors[operator.part], storage)
        if operator.bias is not None:
            assert solution.bias is not None
            stored[operator.bias] = StoredTensor.of_floats(solution.bias)
    return stored


def _stored(factor: Factor, storage: Storage) -> StoredTensor:
    mask = factor.mask if storage.index != "none" else None
    return StoredTensor(storage=storage, values=factor.values, scale=factor.scale, mask=mask)
