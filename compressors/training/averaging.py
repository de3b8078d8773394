"""The running average of what learns, which is scored and kept in place of the last step's values.

An exponential average over the last 1 / (1 - decay) steps (Polyak and Juditsky 1992); at the start, over
as many as there were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from paredown.compressors.training.trainable import Trainable

_FIRST = 10.0
"""Steps before which the average follows almost at once: min(decay, (1 + n) / (10 + n))."""


class Average:
    """The average of a view's parameters; with a decay of 0 it is the parameters themselves."""

    def __init__(self, trainable: Trainable, decay: float) -> None:
        self._trainable = trainable
        self._decay = decay
        self.values = self._now() if decay else {}

    def add(self, step: int) -> None:
        """Takes in the parameters after `step` steps."""
        if self._decay:
            decay = min(self._decay, (1 + step) / (_FIRST + step))
            for name, value in self._now().items():
                self.values[name].lerp_(value, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The view has the averages inside, and its own values again behind."""
        if not self._decay:
            yield
            return
        before = {name: x.clone() for name, x in self._trainable.state_dict().items()}
        self._trainable.load_state_dict(self.values, strict=False)
        self._trainable.after_step()
        try:
            yield
        finally:
            self._trainable.load_state_dict(before)

    def _now(self) -> dict[str, Tensor]:
        with torch.no_grad():
            return {name: x.clone() for name, x in self._trainable.named_parameters()}
