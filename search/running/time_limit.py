"""How long an evaluation may take before it has failed."""

from __future__ import annotations

from collections.abc import Iterable

from paredown.search.config.schema import SearchSection
from paredown.search.study.evaluation import Evaluation

TIMES_THE_SLOWEST = 20
SHORTEST_S = 60.0
GRACE_S = 5.0
"""Between the exception that a time limit raises in an evaluation and the end of its process."""


def longest_s(
    section: SearchSection, evaluations: Iterable[Evaluation], growth: float = 1.0
) -> float:
    """Seconds an evaluation may take: as configured, else many times the slowest reference's.

    Args:
        evaluations: With the references scored so far on the first rung; the uncompressed model is
            one of them, so that there always is one.
        growth: Rows of this evaluation, as a multiple of those of the first rung.
    """
    if section.evaluation_timeout_s is not None:
        return section.evaluation_timeout_s
    slowest_s = max(
        e.duration_s
        for e in evaluations
        if e.kind == "reference" and e.rung == 0 and not e.is_failed
    )
    return max(SHORTEST_S, TIMES_THE_SLOWEST * slowest_s * growth)


def too_long(longest_s: float) -> str:
    """What is said of an evaluation that took longer."""
    return (
        f"an evaluation must take at most {longest_s:.4g} s, got one that went on; mend what "
        "hangs, or raise search.evaluation_timeout_s"
    )
