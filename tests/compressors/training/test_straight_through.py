"""Gradients through rounding against finite differences of what it relaxes, and by hand."""

import pytest
import torch

from paredown.compressors.training.straight_through import (
    LearnedScale,
    differentiable,
    round_by_own_range,
    round_in_range,
)
from paredown.spaces.graph.functions import (
    DYNAMIC_QDQ,
    QDQ,
    quantize_dequantize,
    quantize_dequantize_by_range,
)
from paredown.spaces.graph.graph import Node, Ref
from paredown.spaces.graph.recurrent import lstm_steps

RANGES = [(0, 0, 255), (114, 0, 255), (0, -127, 127)]
SCALE = 0.02


def values(*shape, seed=0, size=3.0):
    """Some of them beyond the codes."""
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def finite_differences(function, x, by=1e-6):
    """Gradient of a function of one value, at each of `x`, in float64."""
    x = x.double()
    return (function(x + by) - function(x - by)) / (2 * by)


@pytest.mark.parametrize("limits", RANGES)
def test_a_fixed_range_passes_the_gradient_of_the_clipped_line(limits):
    zero_point, low, high = limits
    x, weights = values(500).requires_grad_(), values(500, seed=1)
    found = round_in_range(x, SCALE, *limits)
    assert torch.equal(found, quantize_dequantize(x.detach(), SCALE, *limits))
    (found * weights).sum().backward()

    def clipped(v):
        return (v / SCALE).clamp(low - zero_point, high - zero_point) * SCALE

    wanted = weights * finite_differences(clipped, x.detach())
    assert torch.allclose(x.grad.double(), wanted, atol=1e-4)
    assert bool((x.grad == 0).any()), "some are clipped"
    assert bool((x.grad != 0).any())


@pytest.mark.parametrize("limits", RANGES)
@pytest.mark.parametrize("by_rounding", [True, False])
@pytest.mark.parametrize("layout", ["flat", "channels_last", "transposed", "large"])
def test_a_learned_scale_gets_the_formula_of_its_paper(limits, by_rounding, layout):
    zero_point, low, high = limits
    shape = (3, 5, 40, 250) if layout == "large" else (3, 5, 7, 4)
    x, weights = values(*shape), values(*shape, seed=1)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.transpose(0, 3)
        weights = values(*x.shape, seed=1)
    x.requires_grad_()
    scale = torch.tensor(SCALE, requires_grad=True)
    found = round_in_range(x, LearnedScale(scale, by_rounding), *limits)
    assert torch.equal(found, quantize_dequantize(x.detach(), float(scale.detach()), *limits))
    (found * weights).sum().backward()

    steps = x.detach().double() / float(scale.detach())
    first, last = low - zero_point, high - zero_point
    is_inside = (steps > first) & (steps < last)
    # Esser et al. 2020, equation 3; PACT's is that of clipped values alone.
    error = steps.round() - steps if by_rounding else torch.zeros_like(steps)
    by_scale = torch.where(is_inside, error, steps.clamp(first, last)) * weights
    size = float(by_scale.abs().sum())
    assert float(scale.grad) == pytest.approx(float(by_scale.sum()), abs=1e-3 * size)
    assert torch.equal(x.grad, torch.where(is_inside, weights, torch.zeros(())))


def test_the_gradient_of_clipping_by_the_scale_is_the_relaxations():
    x = torch.tensor([-9.0, -1.0, 0.3, 2.0, 9.0])
    scale = torch.tensor(SCALE, requires_grad=True)
    round_in_range(x, LearnedScale(scale, False), 0, -127, 127).sum().backward()

    def relaxed(s):  # sum of values clipped at the last codes
        return x.double().maximum(-127 * s).minimum(127 * s).sum()

    wanted = finite_differences(relaxed, torch.tensor(SCALE))
    # Clipping alone sees no change of values within.
    assert float(scale.grad) == pytest.approx(float(wanted))
    # One is clipped below, one above: they cancel; without the upper one they do not.
    scale.grad = None
    round_in_range(x[:4], LearnedScale(scale, False), 0, -127, 127).sum().backward()
    assert float(scale.grad) == pytest.approx(-127.0)


@pytest.mark.parametrize("limits", RANGES)
def test_values_on_the_last_codes_are_within(limits):
    zero_point, low, high = limits
    first = quantize_dequantize(torch.tensor([-99.0, 99.0]), SCALE, *limits)
    assert first.tolist() == pytest.approx(
        [SCALE * (low - zero_point), SCALE * (high - zero_point)]
    )
    for scale in (SCALE, LearnedScale(torch.tensor(SCALE, requires_grad=True), True)):
        x = first.clone().requires_grad_()
        round_in_range(x, scale, *limits).sum().backward()
        assert x.grad.tolist() == [1.0, 1.0]


def test_a_gradient_that_is_expanded_or_of_a_scalar_passes():
    x = torch.tensor(0.5, requires_grad=True)
    scale = torch.tensor(SCALE, requires_grad=True)
    round_in_range(x, LearnedScale(scale, True), 0, 0, 255).backward()
    assert float(x.grad) == 1.0
    x = values(4, 6).requires_grad_()
    round_in_range(x, LearnedScale(scale, True), 0, -127, 127).mean().backward()
    assert set(x.grad.flatten().tolist()) <= {0.0, float(torch.tensor(1 / 24))}


def test_a_range_of_its_own_passes_everything():
    x, weights = values(6, 4).requires_grad_(), values(6, 4, seed=1)
    found = round_by_own_range(x, 2)
    assert torch.equal(found, quantize_dequantize_by_range(x.detach(), 2))
    (found * weights).sum().backward()
    assert torch.equal(x.grad, weights)


def test_an_lstm_with_rounded_state_has_the_gradient_of_one_without():
    time, batch, units = 5, 3, 4
    draws = [
        values(time, batch, 4 * units, size=1.0),
        values(4 * units, units, seed=1, size=0.5),
        values(4 * units, seed=2, size=0.1),
    ]
    weights = values(time, batch, units, seed=3)

    def gradients(rows, round_by_range=round_by_own_range):
        gates, weight, bias = (x.clone().requires_grad_() for x in draws)
        states, _ = lstm_steps(gates, None, None, weight, bias, False, rows, round_by_range)
        (states * weights).sum().backward()
        return states.detach(), [x.grad for x in (gates, weight, bias)]

    states, found = gradients(1)
    assert torch.equal(states, lstm_steps(draws[0], None, None, *draws[1:], rows=1)[0])
    _, wanted = gradients(None)
    for one, other in zip(found, wanted, strict=True):
        # Straight through: codes of 8 bits move the gradient by little, and stop none of it.
        assert torch.allclose(one, other, atol=0.02 * float(other.abs().max()))
    _, stopped = gradients(1, lambda h, rows: quantize_dequantize_by_range(h, rows).detach())
    assert not torch.allclose(stopped[0], wanted[0], atol=0.02 * float(wanted[0].abs().max()))


def test_only_rounding_is_replaced():
    x = values(4, 6).requires_grad_()
    arguments = (x, SCALE, 0, -127, 127)
    node = Node(name="q", op=QDQ, args=(Ref("x"), *arguments[1:]), shape=(4, 6))
    assert differentiable(node, arguments, {}).requires_grad
    scale = torch.tensor(2 * SCALE, requires_grad=True)
    found = differentiable(node, arguments, {"q": LearnedScale(scale, True)})
    assert torch.equal(found, quantize_dequantize(x, 2 * SCALE, 0, -127, 127))
    dynamic = Node(name="d", op=DYNAMIC_QDQ, args=(Ref("x"), 2, 0, 1), shape=(4, 6))
    assert differentiable(dynamic, (x, 2, 0, 1), {}).requires_grad
    relu = Node(name="r", op="aten.relu.default", args=(Ref("x"),), shape=(4, 6))
    assert torch.equal(differentiable(relu, (x,), {}), torch.relu(x))
