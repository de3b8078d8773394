"""How far a training is: its losses, its best state, and all of it as tensors to go on from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.compressors.training.trainable import Trainable
from paredown.compressors.training.trainer import CurvePoint

_MODEL, _BEST, _OPTIMIZER = "model/", "best/", "optimizer/"


class Best:
    """The state of the least held-out loss so far."""

    def __init__(self, trainable: Trainable) -> None:
        self.loss = math.inf
        self.state = _copied(trainable)

    def take(self, trainable: Trainable, loss: float) -> None:
        """Remembers the state of now."""
        self.loss = loss
        self.state = _copied(trainable)


@dataclass
class Progress:
    """Steps done and losses so far."""

    step: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    total: float = 0.0
    count: int = 0

    def add(self, loss: float) -> None:
        """Counts a step."""
        self.step += 1
        self.total += loss
        self.count += 1

    def look(self, held_out_loss: float) -> None:
        """Adds a point to the curve."""
        mean = self.total / self.count if self.count else held_out_loss
        self.curve.append(CurvePoint(step=self.step, loss=mean, held_out_loss=held_out_loss))
        self.total, self.count = 0.0, 0

    def saved(
        self, trainable: Trainable, optimizer: torch.optim.Optimizer, best: Best
    ) -> dict[str, Tensor]:
        """All of it as tensors."""
        found = {f"{_MODEL}{name}": tensor for name, tensor in _copied(trainable).items()}
        found |= {f"{_BEST}{name}": tensor for name, tensor in best.state.items()}
        for number, moments in optimizer.state_dict()["state"].items():
            for name, tensor in moments.items():
                found[f"{_OPTIMIZER}{number}/{name}"] = tensor.clone()
        points = [(p.step, p.loss, p.held_out_loss) for p in self.curve]
        found["curve"] = torch.tensor(points, dtype=torch.float64).view(-1, 3)
        counters = (self.step, self.total, self.count, best.loss)
        found["counters"] = torch.tensor(counters, dtype=torch.float64)
        return found

    def restore(
        self,
        saved: Mapping[str, Tensor],
        trainable: Trainable,
        optimizer: torch.optim.Optimizer,
        best: Best,
    ) -> None:
        """Goes on from what `saved` gave."""
        trainable.load_state_dict(_under(_MODEL, saved))
        best.state = _under(_BEST, saved)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(_OPTIMIZER, saved).items():
            number, _, key = name.partition("/")
            moments.setdefault(int(number), {})[key] = tensor
        state = optimizer.state_dict()
        optimizer.load_state_dict({**state, "state": moments})
        step, self.total, count, best.loss = saved["counters"].tolist()
        self.step, self.count = int(step), int(count)
        self.curve = [
            CurvePoint(step=int(at), loss=loss, held_out_loss=held_out)
            for at, loss, held_out in saved["curve"].tolist()
        ]


def _copied(trainable: Trainable) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in trainable.state_dict().items()}


def _under(prefix: str, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): x for n, x in saved.items() if n.startswith(prefix)}
