"""AdaRound: whether each weight is rounded up or down, learned under the Gram matrix.

Nagel et al. 2020, arXiv:2004.10568. A code is floor(w / s) + h with a rectified sigmoid h of one
variable; Adam minimises tr((W - Q) G (W - Q)^T) while a term that favours h at 0 and 1 sharpens. The Gram
holds all that the paper's sampled outputs say of the data, so a step is one matrix product. Nothing is
drawn at random.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import gram_diagonal
from paredown.compressors.rounding.compensated import gptq
from paredown.compressors.rounding.quantize import Codes, round_to_nearest, top_code
from paredown.compressors.rounding.target import Target

_MOST_BITS = 4
"""Above, GPTQ leaves nothing worth a descent."""
_ITERATIONS = 300
_RATE = 0.2
_SHARPNESS = (20.0, 2.0)
"""The exponent beta of the paper's regulariser, from the end of the warm-up to the last step."""
_WARM_UP = 0.2
"""Share of the steps without the regulariser."""
_PRESSURE = 10.0
"""The paper's lambda, beside errors in squared steps of the scale times an input's mean energy. So few
steps need a strong one: five layers of ResNet-20 at 3 bits lose 0.080 of their outputs' energy, summed,
with the paper's 0.01 and 0.045 with 10."""
_LOW, _HIGH = -0.1, 1.1
"""The paper's gamma and zeta: where the rectified sigmoid is cut off."""
_EDGE = 0.01


def adaround(target: Target, bits: int, mask: Tensor | None = None) -> Codes:
    """Codes of (R, K) whose error under the Gram is at most GPTQ's and rounding's, row by row.

    Scales are those of the better of rounding and GPTQ, row by row, and are refitted at the end.
    Arguments as for `gptq`. Above 4 bits it is GPTQ; a diagonal Gram leaves nothing to learn.
    """
    if bits > _MOST_BITS:
        return gptq(target, bits, mask)
    kept = target.weight if mask is None else target.weight * mask
    diagonal = gram_diagonal(target.gram.values, len(kept))
    plain = target.refit(round_to_nearest(kept, bits, diagonal))
    if not target.gram.compensates:
        return plain.codes
    start = target.refit(gptq(target, bits, mask)).or_better(plain)
    grouped, square = target.grouped, target.gram.square
    allowed = None if mask is None else mask.reshape(grouped.shape)
    scale = start.codes.scale.double().reshape(grouped.shape[:2])
    codes = learn_codes(grouped, square, scale, top_code(bits), allowed)
    found = Codes(codes=codes.reshape(kept.shape).to(torch.int8), scale=start.codes.scale)
    return target.refit(found).or_better(start).codes


def learn_codes(
    weight: Tensor, gram: Tensor, scale: Tensor, top: int, allowed: Tensor | None
) -> Tensor:
    """Float64 codes (groups, rows, K) for weights of that shape at scales (groups, rows).

    Args:
        gram: (groups, K, K).
        allowed: Boolean like the weights; False entries get the code 0.
    """
    wanted = (weight / scale.unsqueeze(2)).float()
    inside = wanted.clamp(-top, top)
    floor = inside.floor().clamp(max=top - 1)
    free = torch.ones_like(floor) if allowed is None else allowed.to(floor.dtype)
    # In units of an input's mean energy all rows of all layers pull alike against the regulariser.
    level = gram.diagonal(dim1=1, dim2=2).mean(dim=1)
    level = torch.where(level > 0, level, 1.0)
    energy = (gram / level.view(-1, 1, 1)).float()
    variable = _unsquashed(inside - floor)
    optimizer = torch.optim.Adam([variable], lr=_RATE)
    for step in range(_ITERATIONS):
        squashed = torch.sigmoid(variable)
        up = _stretched(squashed)
        gradient = 2 * ((floor + up) * free - wanted) @ energy
        progress = (step / _ITERATIONS - _WARM_UP) / (1 - _WARM_UP)
        if progress > 0:
            gradient += _PRESSURE * _pull(up, progress)
        moves = free * ((up > 0) & (up < 1))
        variable.grad = gradient * moves * squashed * (1 - squashed) * (_HIGH - _LOW)
        optimizer.step()
    up = _stretched(torch.sigmoid(variable))
    # What stayed in the middle goes away from zero, so that both signs are treated alike.
    ups = torch.where(up == 0.5, inside > 0, up > 0.5)
    return ((floor + ups) * free).double()


def _pull(up: Tensor, progress: float) -> Tensor:
    """The gradient of sum(1 - |2 h - 1|^beta) by h."""
    first, last = _SHARPNESS
    beta = last + (first - last) * (1 - progress)
    side = 2 * up - 1
    return -2 * beta * side.abs().pow(beta - 1) * side.sign()


def _stretched(squashed: Tensor) -> Tensor:
    """The rectified sigmoid of which `squashed` is the plain one."""
    return (_LOW + (_HIGH - _LOW) * squashed).clamp(0.0, 1.0)


def _unsquashed(up: Tensor) -> Tensor:
    """The variable whose rectified sigmoid is `up`; none starts where its gradient vanishes."""
    return torch.logit((up.clamp(_EDGE, 1 - _EDGE) - _LOW) / (_HIGH - _LOW))
