"""On every layer of a real network, under its own statistics: the better solver has the lower error.

The built-in digits network; `benchmarks/compressors/methods.py --orderings` does the same on
ResNet-20. Rows are solved alone, so the first four of each layer are enough.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from paredown.compressors.layers.methods import Problem, compress
from paredown.compressors.low_rank.factorizing import whitened_svd
from paredown.compressors.matrix.algebra import row_errors, to_matrix
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.pruning.sparsify import exact_obs, magnitude, sparse_gpt
from paredown.compressors.rounding.target import Target
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.search.config.reading import load_config
from paredown.search.tasks.task import load_task
from paredown.spaces.candidates.candidate import LayerChoice, Method
from paredown.spaces.capture.capturing import as_inputs, capture
from paredown.spaces.structure.layers import read_layers

EXAMPLES = Path(__file__).parents[3] / "examples"
ROWS = 4
IMAGES = 64


@pytest.fixture(scope="module")
def problems() -> dict[str, tuple[Tensor, Tensor]]:
    """Layer name -> the first rows of its matrix, float64, and its Gram."""
    task = load_task(load_config(EXAMPLES / "digits.yaml"))
    captured = capture(task.module, task.example)
    layers = read_layers(captured)[0]
    inputs = as_inputs(captured.graph, task.splits.calibration.rows(0, IMAGES)[0])
    statistics = collect_statistics(captured.graph, captured.tensors, layers, [inputs])
    return {
        layer.name: (
            to_matrix(captured.tensors[layer.weight], layer)[:ROWS].double(),
            statistics[layer.name].gram,
        )
        for layer in layers
    }


def _error(found: Tensor, weight: Tensor, gram: Tensor) -> float:
    return float(row_errors(found - weight, gram).sum())


def test_whitened_svd_is_no_worse_than_plain_and_loses_the_discarded_energy(problems) -> None:
    for weight, gram in problems.values():
        root = torch.linalg.eigh(gram)
        half = root.eigenvectors * root.eigenvalues.clamp_min(0).sqrt()
        singular = torch.linalg.svdvals(weight @ half)
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        for rank in {1, len(singular) // 2}:
            first, second = whitened_svd(weight, gram, rank)
            error = _error(second @ first, weight, gram)
            plain = _error((u[:, :rank] * s[:rank]) @ v[:rank], weight, gram)
            total = float(singular.square().sum())
            assert error <= plain + 1e-9 * total
            assert abs(error - float(singular[rank:].square().sum())) <= 1e-6 * total


def test_exact_obs_is_no_worse_than_sparse_gpt_and_that_than_magnitude(problems) -> None:
    for name, (weight, gram) in problems.items():
        errors = [
            _error(pruned, weight, gram)
            for pruned, _ in (
                exact_obs(Target.of(weight, gram), 0.6, "element", Paths()),
                sparse_gpt(Target.of(weight, gram), 0.6),
                magnitude(weight, 0.6),
            )
        ]
        assert errors == sorted(errors), name


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_obq_and_descent_are_no_worse_than_gptq_and_that_than_rounding(bits, problems) -> None:
    total = torch.zeros(4).double()
    for name, (weight, gram) in problems.items():
        obq, descent, gptq, rtn = (
            _error(_dense(weight, gram, bits, method), weight, gram)
            for method in ("obq", "descent", "gptq", "rtn")
        )
        assert max(obq, descent) <= gptq * (1 + 1e-6), name
        # At 4 bits single layers may turn around; the sum may not.
        assert bits == 4 or gptq <= rtn, name
        scale = _error(torch.zeros_like(weight), weight, gram)
        total += torch.tensor([obq, descent, gptq, rtn]) / scale
    assert max(total[0], total[1]) < total[2] < total[3]


def _dense(weight: Tensor, gram: Tensor, bits: int, method: Method) -> Tensor:
    problem = Problem(target=Target.of(weight, gram))
    return compress(problem, LayerChoice(weight_bits=bits, method=method)).dense()
