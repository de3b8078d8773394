"""Qualities: what is known of every figure that says how good a model is, built in or a user's own.

Plain data that the config, the study and the reports read; how a quality is computed from outputs is
`paredown.search.tasks.metrics`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One figure of merit; a metric of the user's own has a name and a direction alone.

    Args:
        usual_loss: The loss that a model scored by it is trained with; "" if no task is scored by it.
        is_share: Whether it lies in [0, 1].
        in_percent: Whether people write it in per cent, and differences in points.
        is_hit_rate: Whether it is the share of rows whose largest logit is the target's.
        margin: How much worse than the uncompressed model a model may be to count in the hypervolume;
            None is half of that model's magnitude, a convention and no more.
    """

    name: str
    direction: Direction
    usual_loss: str = ""
    is_share: bool = False
    in_percent: bool = False
    is_hit_rate: bool = False
    margin: float | None = None

    def slack(self, uncompressed: float) -> float:
        """The margin where the uncompressed model has this value."""
        return 0.5 * abs(uncompressed) if self.margin is None else self.margin


ACCURACY = Quality(
    name="accuracy",
    direction="maximize",
    usual_loss="cross_entropy",
    is_share=True,
    in_percent=True,
    is_hit_rate=True,
    margin=0.10,
)
MEAN_IOU = Quality(
    name="mean_iou", direction="maximize", usual_loss="cross_entropy", is_share=True
)
F1 = Quality(name="f1", direction="maximize", is_share=True, in_percent=True, margin=0.10)
"""Of entities, as seqeval counts them."""
LOSS = Quality(name="loss", direction="minimize")
MSE = Quality(name="mse", direction="minimize", usual_loss="mse")
PERPLEXITY = Quality(name="perplexity", direction="minimize", usual_loss="sequence_cross_entropy")

QUALITIES: Mapping[str, Quality] = {
    quality.name: quality for quality in (ACCURACY, MEAN_IOU, F1, LOSS, MSE, PERPLEXITY)
}
"""Every built-in quality by its name."""
TASK_QUALITIES = tuple(name for name, quality in QUALITIES.items() if quality.usual_loss)
"""Those that a task can be scored by."""


def quality_of(metric: str, direction: Direction = "maximize") -> Quality:
    """The quality of that name: a built-in one, or a user's own of this direction."""
    return QUALITIES.get(metric) or Quality(name=metric, direction=direction)


def measured_quality(name: str) -> Quality:
    """The quality behind a measured figure: `test_accuracy` is accuracy on the test split.

    >>> measured_quality("uncompressed_test_accuracy") == ACCURACY
    True
    """
    return quality_of(name.removeprefix("uncompressed_").removeprefix("test_"))
