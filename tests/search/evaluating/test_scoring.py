"""Scores: the mean over rows whatever the batches, the settled model where it is needed."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from paredown.compressors.models.assembling import assemble, settle
from paredown.compressors.models.refit import DenseOutputs
from paredown.search.evaluating.scoring import Evaluator, NotFiniteError
from paredown.search.study.rung import Rung
from paredown.search.tasks.metrics import loss_named, metric_named
from paredown.search.tasks.splits import Split
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

ROWS = 70  # two batches and a rest


@pytest.fixture(scope="module")
def evaluator(mapped, database, calibration):
    generator = torch.Generator().manual_seed(3)
    shape = calibration("lenet")[0].shape[1:]
    classes = mapped("lenet").layers[-1].weight_shape[0]
    split = Split(
        inputs=(torch.randn(ROWS, *shape, generator=generator),),
        targets=torch.randint(classes, (ROWS,), generator=generator),
    )
    return Evaluator(
        databases={"": database("lenet")},
        split=split,
        metric=metric_named("accuracy"),
        loss=loss_named("cross_entropy"),
        calibration=calibration("lenet"),
    )


@pytest.mark.parametrize("rows", [1, 32, 33, ROWS, None, 10 * ROWS])
def test_scores_are_means_over_the_first_rows(evaluator, rows):
    model = evaluator.assemble(Candidate())
    count = min(rows or ROWS, ROWS)
    with torch.no_grad():
        logits = model([evaluator.split.inputs[0][:count]])[0]
    targets = evaluator.split.targets[:count]
    score = evaluator.score(model, rows)
    assert score.images == count
    assert score.metric == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    assert score.loss == pytest.approx(float(F.cross_entropy(logits, targets)), rel=1e-5)


def test_outputs_that_are_no_numbers_are_told(evaluator):
    model = evaluator.assemble(Candidate())
    name = next(n for n in model.stored if n.endswith("bias"))
    values = torch.full_like(model.stored[name].values, torch.nan)
    broken = replace(
        model, stored={**model.stored, name: replace(model.stored[name], values=values)}
    )
    with pytest.raises(NotFiniteError, match="finite"):
        evaluator.score(broken)


def test_only_harsh_candidates_are_settled(evaluator, mapped, database, calibration):
    names = [layer.name for layer in mapped("lenet").layers]
    mild = Candidate.of(layers=dict.fromkeys(names, LayerChoice(weight_bits=4)))
    harsh = Candidate.of(layers=dict.fromkeys(names, LayerChoice(weight_bits=2)))
    plain = {c: assemble(c, database("lenet")) for c in (mild, harsh)}
    dense = DenseOutputs(database("lenet"), calibration("lenet"))
    settled = settle(plain[harsh], harsh, database("lenet"), dense)
    for expected, found in (
        (plain[mild], evaluator.assemble(mild)),
        (settled, evaluator.assemble(harsh)),
    ):
        for name, tensor in expected.tensors.items():
            assert torch.equal(tensor, found.tensors[name]), name


def test_a_worker_that_got_the_evaluator_as_bytes_scores_the_same(evaluator, mapped):
    first = mapped("lenet").layers[0].name
    candidate = Candidate.of(layers={first: LayerChoice(weight_bits=2)})
    here = evaluator.evaluate(candidate, Rung())
    assert pickle.loads(pickle.dumps(evaluator)).evaluate(candidate, Rung()) == here
