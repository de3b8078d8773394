"""Outputs through ONNX Runtime and of our own run: every row once, in order, whatever the batch size."""

from dataclasses import replace

import onnxruntime as ort
import pytest
import torch
from torch import nn

from paredown.compressors.bundle.loading import load_model
from paredown.compressors.kernels.kernel_checks import session as exact_session
from paredown.compressors.onnx.lowering import lower
from paredown.search.calibrating.drawing import imagine
from paredown.search.evaluating.runtime_outputs import (
    both_outputs,
    onnx_outputs,
    run_onnx,
    simulated_outputs,
)
from paredown.search.tasks.splits import Split
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map


class Recorded:
    """A session whose network adds its two inputs; it takes batches of three rows alone."""

    def __init__(self):
        self.seen = []

    def run(self, names, feeds):
        one, two = feeds.values()
        assert len(one) == len(two) == 3
        self.seen.append(one[:, 0].tolist())
        return [one + two for _ in names]


class Watched:
    """A session that notes how many rows each run has."""

    def __init__(self, session, seen):
        self.session, self.seen = session, seen

    def run(self, names, feeds):
        self.seen.append(len(next(iter(feeds.values()))))
        return self.session.run(names, feeds)


class Sum(nn.Module):
    def forward(self, one, two):
        return one + two


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 9])
def test_the_last_batch_is_filled_up_and_what_comes_of_that_is_cut_off(rows):
    graph = capture(Sum(), (torch.zeros(3, 2), torch.zeros(3, 2))).graph
    session = Recorded()
    one = torch.arange(2.0 * rows).reshape(rows, 2)
    (found,) = run_onnx(session, graph, [one, 100 * one])
    assert torch.equal(found, 101 * one)
    assert len(session.seen) == -(-rows // 3)
    assert [x for batch in session.seen for x in batch][:rows] == one[:, 0].tolist()


@pytest.mark.parametrize("ranges", ["static", "dynamic"])
def test_a_free_batch_runs_whole_but_for_ranges_of_the_rows_that_costs_are_for(ranges):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    captured = capture(network, torch.randn(2, 16))
    captured = replace(captured, graph=replace(captured.graph, any_batch=True))
    model_map = read_model_map(captured)
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=8) for layer in model_map.layers},
        segments={
            each.name: SegmentChoice(activation_bits=8, ranges=ranges)
            for each in model_map.segments
        },
    )
    model = imagine(draft(model_map, candidate), seed=0)
    session = exact_session(lower(model).SerializeToString())
    seen = []
    # One row of large values: its range would be that of all rows beside it.
    rows = torch.randn(7, 16) * torch.tensor([1, 1, 100, 1, 1, 1, 1]).unsqueeze(1)
    with torch.no_grad():
        (ours,) = model([rows])
    (theirs,) = run_onnx(Watched(session, seen), model.blueprint.graph, [rows])
    assert seen == ([7] if ranges == "static" else [2, 2, 2, 2])
    assert torch.allclose(theirs, ours, rtol=1e-4, atol=1e-3 * float(ours[:2].abs().max()))


@pytest.fixture
def exported(planted):
    folder = planted("weights")
    model = load_model(folder)
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session, model


def test_runtime_and_simulation_give_the_same_rows_side_by_side(exported, workbench):
    session, model = exported
    graph, split = model.blueprint.graph, workbench.task.splits.search
    assert isinstance(split, Split)
    through = list(onnx_outputs(session, graph, split, 50))
    simulated = list(simulated_outputs(model, split, 50))
    both = list(both_outputs(session, model, split, 50))
    for parts in (through, simulated, both):
        assert torch.equal(torch.cat([part[-1] for part in parts]), split.targets[:50])
    one, other = (torch.cat([o[0] for o, _ in parts]) for parts in (through, simulated))
    assert torch.allclose(one, other, atol=1e-4)
    assert torch.equal(torch.cat([o[0] for o, _, _ in both]), one)
    assert torch.equal(torch.cat([o[0] for _, o, _ in both]), other)
