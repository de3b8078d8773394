from __future__ import annotations

import torch

from paredown.compressors.matrix.recent import Recent


class Counted:
    """Sums a tensor, and counts how often it had to."""

    def __init__(self, size: int = 2) -> None:
        self.recent: Recent[float] = Recent(size)
        self.made = 0

    def __call__(self, tensor: torch.Tensor, facts: str = "") -> float:
        def make() -> float:
            self.made += 1
            return float(tensor.sum())

        return self.recent.get(make, tensor, facts=facts)


def test_views_of_the_same_values_are_the_same_and_copies_are_not() -> None:
    summed, tensor = Counted(), torch.ones(2, 3)
    assert [summed(tensor), summed(tensor.reshape(2, 3)), summed(tensor.float())] == [6.0] * 3
    assert summed.made == 1
    assert summed(tensor.clone()) == 6.0
    assert summed(tensor.t()) == 6.0
    assert summed.made == 3


def test_a_change_in_place_is_seen_through_every_view() -> None:
    summed, tensor = Counted(), torch.ones(2, 3)
    summed(tensor)
    tensor[0].zero_()
    assert summed(tensor) == 3.0


def test_facts_tell_results_apart_and_the_least_recent_goes() -> None:
    summed, tensor = Counted(size=2), torch.ones(2)
    for facts in ("a", "b", "a", "c", "a"):
        summed(tensor, facts)
    assert summed.made == 3
    summed(tensor, "b")
    assert summed.made == 4


def test_freed_tensors_never_lend_their_place_to_others() -> None:
    summed = Counted(size=3)
    for value in range(50):
        assert summed(torch.full((64,), float(value))) == 64.0 * value
