"""What an arm of a bench is: one way to spend a budget of evaluations."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from paredown.search.running.benching.contests import Contest, History


class Group(Enum):
    """What an arm is held against."""

    SAMPLERS = "samplers"
    PARTS = "parts of the space"
    BESIDE = "beside both"


class Arm(Protocol):
    """One way to spend a budget of evaluations; the same seed and budget give the same history."""

    @property
    def group(self) -> Group:
        """The arms that it stands among."""

    @property
    def name(self) -> str:
        """What it is called in tables, and asked for by."""

    @property
    def text(self) -> str:
        """What it does, in a line."""

    def carry_out(self, contest: Contest, seed: int, budget: int) -> History:
        """What it evaluates, at most `budget` candidates, references included."""
