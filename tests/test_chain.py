"""The whole chain on every zoo network: candidate, tensors, both files, and what runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from paredown.compressors.bundle.loading import load
from paredown.compressors.bundle.writing import write_bundle
from paredown.compressors.kernels.kernel_checks import integer_kernels, promised_kernels, session
from paredown.compressors.models.assembling import assemble, needs_refit, settle
from paredown.compressors.models.refit import DenseOutputs
from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.compressors.storage.compressed import CompressedModel
from paredown.hardware_models.work.workload import read_work
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Decomposition, Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.model_map import ModelMap

SAMPLES = 4

Chain = tuple[Candidate, CompressedModel, list[Tensor], Path]


@pytest.fixture(params=[(0, 32), (1, 32), (2, 8), (3, None)], ids=["0", "1", "2-int8", "3-mixed"])
def chain(request, zoo_name, mapped, database, calibration, random_candidate, tmp_path) -> Chain:
    """A candidate, its model as it is scored, inputs of its calibration, and its bundle."""
    seed, activation_bits = request.param
    candidate = random_candidate(mapped(zoo_name), seed, activation_bits)
    model = assemble(candidate, database(zoo_name))
    inputs = calibration(zoo_name)
    if needs_refit(candidate):
        dense = DenseOutputs(database(zoo_name), inputs)
        model = settle(model, candidate, database(zoo_name), dense)
    folder = write_bundle(tmp_path / "bundle", model, candidate, {})
    return candidate, model, inputs, folder


def run_onnx(model: CompressedModel, path: Path, inputs: list[Tensor]) -> list[Tensor]:
    runtime = session(path, exact=True)
    names = model.blueprint.graph.inputs
    rows = []
    for row in range(SAMPLES):
        feed = {n: x[row : row + 1].numpy() for n, x in zip(names, inputs, strict=True)}
        rows.append([torch.from_numpy(value) for value in runtime.run(None, feed)])
    return [torch.cat(column) for column in zip(*rows, strict=True)]


def check_outputs(model: CompressedModel, path: Path, inputs: list[Tensor]) -> None:
    has_codes = any(op.activation_bits == 8 for op in model.blueprint.operators)
    with torch.no_grad():
        ours = [model([x[i : i + 1] for x in inputs]) for i in range(SAMPLES)]
    found = run_onnx(model, path, inputs)
    for theirs, column in zip(found, zip(*ours, strict=True), strict=True):
        expected = torch.cat(column)
        spread = float(expected.max() - expected.min()) + 1e-6
        size = float(expected.abs().max()) + 1e-6
        difference = (theirs - expected).abs()
        if has_codes:
            assert float(difference.mean()) <= 0.02 * spread
        else:
            assert float(difference.max()) <= 1e-4 * size


def check_bundle(chain: Chain, model_map: ModelMap) -> None:
    """Bytes, work and kernels are those promised; both files compute what was scored."""
    candidate, model, inputs, folder = chain
    priced = draft(model_map, candidate)

    onnx_path, packed_path = folder / "model.onnx", folder / "model.safetensors"
    assert onnx_file_bytes(priced) == onnx_path.stat().st_size
    assert packed_file_bytes(priced) == packed_path.stat().st_size
    assert read_work(priced) == read_work(model.blueprint)

    promised = promised_kernels(model.blueprint)
    assert promised == promised_kernels(priced)
    assert not promised - integer_kernels(onnx_path), "a promised kernel is missing"

    check_outputs(model, onnx_path, inputs)
    with torch.no_grad():
        expected = model(inputs)
        loaded = pytree.tree_leaves(load(folder)(*inputs))
    for a, b in zip(expected, loaded, strict=True):
        assert torch.equal(a, b)


def test_every_network_goes_from_candidate_to_files_that_run(
    chain: Chain, zoo_name: str, mapped: Callable
) -> None:
    check_bundle(chain, mapped(zoo_name))


@pytest.mark.parametrize("form", get_args(Decomposition))
@pytest.mark.parametrize("activation_bits", [32, 8])
@pytest.mark.parametrize("name", ["resnet_projection", "unet"])
def test_every_low_rank_form_goes_from_candidate_to_files_that_run(
    name, activation_bits, form, mapped, database, calibration, tmp_path
) -> None:
    model_map = mapped(name)
    choice = LayerChoice(weight_bits=4, zeros=Zeros(0.4, "element"), rank=Rank(0.3, form))
    segment = SegmentChoice(activation_bits=activation_bits)
    candidate = Candidate.of(
        layers={layer.name: choice for layer in model_map.layers},
        segments={each.name: segment for each in model_map.segments},
        widths={group.name: group.channels - 1 for group in model_map.groups},
    )
    model = assemble(candidate, database(name))
    longest = max(operator.part for operator in model.blueprint.operators)
    assert longest == (2 if form == "tucker" else 1)
    folder = write_bundle(tmp_path / "bundle", model, candidate, {})
    check_bundle((candidate, model, calibration(name), folder), model_map)


def test_the_identity_candidate_is_the_model_bit_by_bit(
    zoo_name, captured, database, calibration
) -> None:
    model = assemble(Candidate(), database(zoo_name))
    inputs = calibration(zoo_name)
    graph, tensors = captured(zoo_name).graph, captured(zoo_name).tensors
    with torch.no_grad():
        expected = run(graph, tensors, inputs)
        for a, b in zip(model(inputs), expected, strict=True):
            assert torch.equal(a, b)
    assert model.blueprint.graph == graph
    assert set(model.stored) == set(graph.tensor_names())
