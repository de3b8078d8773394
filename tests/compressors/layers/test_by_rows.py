from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from paredown.compressors.layers import by_rows
from paredown.compressors.layers.by_rows import compress_by_rows
from paredown.compressors.layers.methods import Problem, compress
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.zeros import Zeros

CODES = LayerChoice(weight_bits=3, method="gptq")
GROUPED = LayerChoice(weight_bits=3, method="gptq", group_size=8)
FLOATS = LayerChoice(weight_bits=32)


@pytest.mark.parametrize("choice", [CODES, GROUPED, FLOATS])
@pytest.mark.parametrize("is_weighed", [True, False])
def test_rows_by_themselves_get_what_they_get_together(
    make_problem: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    choice: LayerChoice,
    is_weighed: bool,
) -> None:
    weight, gram = make_problem(0, 11, 20, 100)
    curvature = torch.rand(11) if is_weighed else None
    whole = compress(Problem(target=Target.of(weight, gram), row_curvature=curvature), choice)
    monkeypatch.setattr(by_rows, "_MOST_VALUES", 80)
    seen = []
    monkeypatch.setattr(
        by_rows, "compress", lambda p, c: seen.append(len(p.target.matrix)) or compress(p, c)
    )
    problem = Problem(target=Target.of(weight, gram), row_curvature=curvature)
    found = compress_by_rows(problem, choice)
    assert seen == [4, 4, 3]
    assert torch.equal(found.values, whole.values)
    assert torch.allclose(found.dense(), whole.dense())
    assert torch.allclose(found.moved_by(gram), whole.moved_by(gram))


def test_rows_that_compete_for_zeros_stay_together(
    make_problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, gram = make_problem(1, 9, 16, 100)
    weight[0] *= 100
    choice = LayerChoice(zeros=Zeros(0.5, "element"), method="gptq")
    monkeypatch.setattr(by_rows, "_MOST_VALUES", 32)
    found = compress_by_rows(Problem(target=Target.of(weight, gram)), choice)
    # The large row keeps all that it has, which it could not among few.
    assert int((found.dense()[0] != 0).sum()) == 16
    assert int((found.dense() != 0).sum()) == 9 * 16 // 2
