"""Pruning paths are kept by what they were made from, within their bytes."""

from __future__ import annotations

import torch

from paredown.compressors.pruning.paths import Path, Paths
from paredown.compressors.rounding.target import Target


def _path() -> Path:
    return Path(order=torch.zeros(2, 4, dtype=torch.int32), cost=torch.zeros(2, 4).double())


def test_a_path_is_found_again_by_equal_values_and_by_no_others() -> None:
    paths = Paths()
    weight, gram = torch.ones(2, 4), torch.eye(4).double()
    path = paths.get(Target.of(weight, gram), "element", _path)
    assert paths.get(Target.of(weight.clone(), gram.clone()), "element", _path) is path
    assert paths.get(Target.of(weight, gram), "2:4", _path) is not path
    assert paths.get(Target.of(2 * weight, gram), "element", _path) is not path
    assert paths.get(Target.of(weight, 2 * gram), "element", _path) is not path


def test_the_path_used_longest_ago_goes_first_and_the_last_one_never() -> None:
    def target(factor: float) -> Target:
        return Target.of(torch.full((2, 4), factor), torch.eye(4).double())

    def kept(paths: Paths, factor: float, path: Path) -> bool:
        return paths.get(target(factor), "element", _path) is path

    paths = Paths(capacity_bytes=2 * _path().nbytes)
    first, second = (paths.get(target(factor), "element", _path) for factor in (1, 2))
    assert kept(paths, 1, first)
    third = paths.get(target(3), "element", _path)
    assert kept(paths, 1, first)
    assert kept(paths, 3, third)
    assert not kept(paths, 2, second)
    none = Paths(capacity_bytes=0)
    assert kept(none, 4, none.get(target(4), "element", _path))
