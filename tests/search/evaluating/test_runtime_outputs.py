"""Outputs through ONNX Runtime and of our own run: every row once, in order, whatever the batch size."""

from dataclasses import replace

import onnxruntime as ort
import pytest
import torch
from torch import nn

from paredown.compressors.bundle.loading import load_model
from paredown.search.evaluating.runtime_outputs import (
    both_outputs,
    onnx_outputs,
    run_onnx,
    simulated_outputs,
)
from paredown.search.tasks.splits import Split
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.dynamic_values import FIRST, mark_dynamic


class Recorded:
    """A session whose network adds its two inputs; it takes batches of three rows alone."""

    def __init__(self):
        self.seen = []

    def run(self, names, feeds):
        one, two = feeds.values()
        assert len(one) == len(two) == 3
        self.seen.append(one[:, 0].tolist())
        return [one + two for _ in names]


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


@pytest.mark.parametrize(
    ("bits", "at_once"), [(32, [[0.0, 1.0, 2.0, 3.0]]), (8, [[0.0, 1.0], [2.0, 3.0]])]
)
def test_rows_that_share_a_range_are_those_that_are_scored_together(bits, at_once):
    captured = capture(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.zeros(2, 2))
    graph = replace(captured.graph, any_batch=True)
    if bits == 8:
        graph = mark_dynamic(graph, {node.name: FIRST for node in graph.nodes[:1]})
    seen = []

    class Watched:
        def run(self, names, feeds):
            (x,) = feeds.values()
            seen.append(x[:, 0].tolist())
            return [x for _ in names]

    x = torch.arange(4.0)[:, None].expand(4, 2)
    (found,) = run_onnx(Watched(), graph, [x])
    assert torch.equal(found, x)
    assert seen == at_once


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
