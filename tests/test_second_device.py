"""The chain from statistics to scores on another device: nothing of it lies on the CPU by accident.

A GPU that is there must give what the CPU gives, up to rounding. A second device that computes as the
CPU does must give the very same.
"""

import importlib.util
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.methods import METHODS, Problem, compress
from paredown.compressors.matrix.gram import Gram
from paredown.compressors.rounding.target import Target
from paredown.compressors.statistics.calibration import CalibrationData, calibrate
from paredown.compressors.storage.stored import CPU
from paredown.search.config.qualities import MSE
from paredown.search.evaluating.computing_device import prepare_process
from paredown.search.evaluating.scoring import Evaluator
from paredown.search.study.rung import Rung
from paredown.search.tasks.metrics import Metric
from paredown.search.tasks.splits import Split
from paredown.spaces.candidates.candidate import GROUPED_METHODS, LayerChoice
from paredown.spaces.candidates.zeros import Zeros

_spec = importlib.util.spec_from_file_location(
    "paredown_tests_second_device", Path(__file__).with_name("second_device.py")
)
second_device = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(second_device)
SECOND = second_device.SECOND
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CANDIDATES = 2


def squares(outputs, targets):
    return sum(output.float().square().sum() for output in outputs) + 0 * targets.sum()


def mean_squares(outputs, targets):
    return outputs[0].float().square().flatten(1).mean(1)


def mean(parts):
    return float(torch.cat(list(parts)).mean())


def evaluator_on(device, captured, model_map, inputs):
    """An evaluator that does all on `device`, of tensors and rows that lie on the CPU."""
    targets = torch.zeros(len(inputs[0]))
    data = CalibrationData(
        batches=[[x.to(device) for x in inputs]],
        loss=squares,
        targets=[targets.to(device)],
        loss_digest="",
        seed=0,
        device=device,
    )
    found = calibrate(captured.graph, captured.tensors, model_map.layers, data, shelf=None)
    assert {s.gram.device for s in found.statistics.values()} == {CPU}
    database = Database(model_map, captured.tensors, found.statistics, found.ranges, device=device)
    return Evaluator(
        databases={"": database},
        split=Split(inputs=tuple(inputs), targets=targets, names=captured.graph.inputs),
        metric=Metric(quality=MSE, measure=mean_squares, finish=mean),
        loss=squares,
        calibration=list(inputs),
    )


def figures(evaluator, candidates):
    """Damages, scores and tensors of the candidates, on the CPU."""
    database = evaluator.databases[""]
    found = []
    for candidate in candidates:
        widths = dict(candidate.widths)
        damages = [
            database.damage(layer, candidate.layer(layer.name), widths)
            for layer in database.model_map.layers
        ]
        score = evaluator.evaluate(candidate, Rung(rows=8))
        model = evaluator.assemble(candidate)
        assert {each.values.device.type for each in model.stored.values()} == {
            database.device.type
        }
        found.append((damages, score, model.to(CPU)))
    return found


def check(device, tolerance, setting, captured, model_map, inputs, candidates):
    expected = figures(evaluator_on(CPU, captured, model_map, inputs), candidates)
    with setting:
        found = figures(evaluator_on(device, captured, model_map, inputs), candidates)
    for (damages, score, model), (wanted, base, same) in zip(found, expected, strict=True):
        assert damages == pytest.approx(wanted, rel=tolerance, abs=tolerance)
        assert score.metric == pytest.approx(base.metric, rel=tolerance)
        assert score.loss == pytest.approx(base.loss, rel=tolerance)
        if tolerance == 0:
            for name, stored in model.stored.items():
                torch.testing.assert_close(
                    stored.dense(), same.stored[name].dense(), rtol=0, atol=0
                )


def test_the_chain_gives_the_same_on_a_second_device(
    zoo_name, captured, mapped, calibration, random_candidate
):
    model_map = mapped(zoo_name)
    candidates = [random_candidate(model_map, seed, None) for seed in range(CANDIDATES)]
    check(
        SECOND,
        0,
        second_device.SecondDevice(),
        captured(zoo_name),
        model_map,
        calibration(zoo_name),
        candidates,
    )


@needs_gpu
def test_the_chain_gives_nearly_the_same_on_a_gpu(
    zoo_name, captured, mapped, calibration, random_candidate
):
    device = torch.device("cuda")
    prepare_process(device, 1)
    model_map = mapped(zoo_name)
    candidates = [random_candidate(model_map, seed, None) for seed in range(CANDIDATES)]
    check(
        device,
        1e-2,
        nullcontext(),
        captured(zoo_name),
        model_map,
        calibration(zoo_name),
        candidates,
    )


def test_a_second_device_refuses_to_meet_the_cpu():
    with second_device.SecondDevice():
        there = torch.ones(2, 2).to(SECOND)
        with pytest.raises(AssertionError, match="two devices"):
            there @ torch.ones(2, 2)
        assert (there @ torch.ones(2, 2, device=SECOND)).tolist() == [[2.0, 2.0], [2.0, 2.0]]


FORMS = [(4, 0.0, "dense", 0), (2, 0.0, "dense", 16), (8, 0.5, "element", 0), (3, 0.5, "2:4", 0)]
SOLVED = [
    (method, *form)
    for method in METHODS
    for form in FORMS
    if not form[-1] or method in GROUPED_METHODS
]


@pytest.mark.parametrize(("method", "bits", "share", "pattern", "group"), SOLVED)
def test_a_method_solves_the_same_on_a_second_device(method, bits, share, pattern, group):
    generator = torch.Generator().manual_seed(bits)
    matrix = torch.randn(6, 32, generator=generator)
    seen = torch.randn(90, 32, generator=generator).double()
    choice = LayerChoice(
        weight_bits=bits, zeros=Zeros(share, pattern), group_size=group, method=method
    )

    def solved(device):
        gram = (seen.t() @ seen / len(seen)).to(device)
        curvature = torch.linspace(0.5, 2.0, 6, dtype=torch.float64).to(device)
        target = Target(matrix=matrix.to(device), gram=Gram(gram))
        return compress(Problem(target=target, row_curvature=curvature), choice).dense()

    expected = solved(CPU)
    with second_device.SecondDevice():
        found = solved(SECOND)
        assert found.device == SECOND
        assert torch.equal(found.cpu(), expected)
