"""The rank that a layer keeps, and the form of the operators it then becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decomposition = Literal["channel", "spatial", "tucker"]


@dataclass(frozen=True)
class Rank:
    """The shares of the full ranks that a layer keeps.

    `share` 1 leaves the layer whole. `form` is that of what is not: "channel" (the kernel to few
    channels, then pointwise), "spatial" (down, then to the right) or "tucker" (pointwise, the kernel
    between few channels, pointwise). `written_share` is that of tucker's second rank, what the kernel
    writes, where it differs from the first's.
    """

    share: float = 1.0
    form: Decomposition = "channel"
    written_share: float | None = None

    @property
    def mean_share(self) -> float:
        """The share of the full rank kept; of two ranks the mean of their shares."""
        if self.written_share is None:
            return self.share
        return (self.share + self.written_share) / 2

    @property
    def shares_text(self) -> str:
        """The share kept of each full rank.

        >>> Rank(0.5).shares_text, Rank(0.25, "tucker", 0.5).shares_text
        ('50%', '25% × 50%')
        """
        first = f"{self.share:.0%}"
        return first if self.written_share is None else f"{first} × {self.written_share:.0%}"

    @property
    def text(self) -> str:
        """As people read it.

        >>> Rank().text, Rank(0.5, "spatial").text
        ('whole', '50% spatial')
        """
        return "whole" if self.share == 1 else f"{self.shares_text} {self.form}"


WHOLE = Rank()
