from __future__ import annotations

import pytest
import torch

from paredown.search.calibrating.families import FAMILIES, random_network
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.graph import run


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_is_drawn_by_its_seed_and_captured(family):
    module, example = random_network(family, 1)
    again, _ = random_network(family, 1)
    assert example.shape[0] == 1
    with torch.no_grad():
        expected = module(example)
        assert torch.equal(again(example), expected)
    captured = capture(module, example)
    (found,) = run(captured.graph, captured.tensors, [example])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_draw_different_networks(family):
    shapes = {
        tuple(tuple(p.shape) for p in random_network(family, seed)[0].parameters())
        for seed in range(6)
    }
    assert len(shapes) > 3


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_network("mlp", 3)
    assert torch.equal(torch.rand(3), expected)
