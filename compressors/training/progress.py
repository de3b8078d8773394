"""How far a training is: its losses, its best state, and all of it as tensors to go on from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.trainable import Trainable
from paredown.compressors.training.trainer import CurvePoint

_MODEL, _BEST, _AVERAGE, _CODES = "model/", "best/", "average/", "codes/"
_OPTIMIZER = "optimizer/"
_COUNTED = ("curve", "counters")
_FIRST = 10.0
"""Steps before which the average follows almost at once: min(decay, (1 + n) / (10 + n))."""


class Best:
    """The state of the least held-out loss so far."""

    def __init__(self, trainable: Trainable) -> None:
        self.loss = math.inf
        self.state = _copied(trainable)

    def take(self, trainable: Trainable, loss: float) -> None:
        """Remembers the state of now."""
        self.loss = loss
        self.state = _copied(trainable)


class Average:
    """The average of what a view learns; with a decay of 0 it is the values themselves.

    An exponential average over the last 1 / (1 - decay) steps (Polyak and Juditsky 1992); at the start,
    over as many as there were.
    """

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
        self._trainable.project()
        try:
            yield
        finally:
            self._trainable.load_state_dict(before)

    def _now(self) -> dict[str, Tensor]:
        with torch.no_grad():
            return {name: x.clone() for name, x in self._trainable.averaged()}


class Moving(NamedTuple):
    """What changes in training beside the counters."""

    trainable: Trainable
    optimizer: torch.optim.Optimizer
    average: Average
    best: Best


@dataclass
class Progress:
    """Steps done and losses so far; `codes` are those of the last point of the curve."""

    step: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    total: float = 0.0
    count: int = 0
    codes: dict[str, Tensor] = field(default_factory=dict)

    def add(self, loss: float) -> None:
        """Counts a step."""
        self.step += 1
        self.total += loss
        self.count += 1

    def look(self, model: CompressedModel, held_out_loss: float) -> None:
        """Adds a point to the curve, of the model as it would be exported now."""
        mean = self.total / self.count if self.count else held_out_loss
        codes = {n: x.values for n, x in model.stored.items() if x.scale is not None}
        changed = sum(int((x != codes[n]).sum()) for n, x in self.codes.items())
        total = sum(x.numel() for x in codes.values())
        point = CurvePoint(
            step=self.step, loss=mean, held_out_loss=held_out_loss, flips=changed / max(1, total)
        )
        self.curve.append(point)
        self.total, self.count, self.codes = 0.0, 0, codes

    def saved(self, moving: Moving) -> dict[str, Tensor]:
        """All of it as tensors."""
        parts = {
            _MODEL: _copied(moving.trainable),
            _BEST: moving.best.state,
            _AVERAGE: {n: x.clone() for n, x in moving.average.values.items()},
            _CODES: self.codes,
        }
        found = {f"{part}{n}": x for part, named in parts.items() for n, x in named.items()}
        for number, moments in moving.optimizer.state_dict()["state"].items():
            for name, tensor in moments.items():
                found[f"{_OPTIMIZER}{number}/{name}"] = tensor.clone()
        points = [(p.step, p.loss, p.held_out_loss, p.flips) for p in self.curve]
        found["curve"] = torch.tensor(points, dtype=torch.float64).view(-1, 4)
        counters = (self.step, self.total, self.count, moving.best.loss)
        found["counters"] = torch.tensor(counters, dtype=torch.float64)
        return found

    def restore(self, saved: Mapping[str, Tensor], moving: Moving) -> None:
        """Goes on from what `saved` gave, on the device of the model."""
        device = moving.trainable.model.device
        saved = {name: x if name in _COUNTED else x.to(device) for name, x in saved.items()}
        moving.trainable.load_state_dict(_under(_MODEL, saved))
        moving.best.state = _under(_BEST, saved)
        moving.average.values = _under(_AVERAGE, saved)
        self.codes = _under(_CODES, saved)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(_OPTIMIZER, saved).items():
            number, _, key = name.partition("/")
            moments.setdefault(int(number), {})[key] = tensor
        state = moving.optimizer.state_dict()
        moving.optimizer.load_state_dict({**state, "state": moments})
        step, self.total, count, moving.best.loss = saved["counters"].tolist()
        self.step, self.count = int(step), int(count)
        self.curve = [
            CurvePoint(step=int(at), loss=loss, held_out_loss=held_out, flips=flips)
            for at, loss, held_out, flips in saved["curve"].tolist()
        ]


def _copied(trainable: Trainable) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in trainable.state_dict().items()}


def _under(prefix: str, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): x for n, x in saved.items() if n.startswith(prefix)}
