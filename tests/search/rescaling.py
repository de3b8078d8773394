"""A recovery by a toy trainer, which scales all codes of a model by one factor."""

from dataclasses import dataclass, replace

import torch

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.trainer import Trained
from paredown.search.evaluating.recovery import Recovery, TrainingRung


@dataclass(frozen=True)
class Rescale:
    """Scales all codes of the model by one factor, the best of nine on the batches of its budget."""

    name: str = "rescale 1"

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        batches = [
            b for b, _ in zip(data.batches(budget.rows, seed), range(budget.steps), strict=False)
        ]

        def loss(scaled: CompressedModel) -> float:
            with torch.no_grad():
                return sum(float(data.loss(scaled(b.inputs), b.targets)) for b in batches)

        # 1 is left out, so that the trained model always differs from the assembled one.
        factors = [0.9, 0.98, 0.999, 1.001, 1.02, 1.1]
        # The factor so far, so that a later rung shows what it went on from.
        before = 1.0 if state is None else float(state["factor"])
        factor = min(factors, key=lambda f: loss(rescaled(model, f)))
        found = {"factor": torch.tensor(before * factor)}
        return Trained(model=rescaled(model, factor), state=found)


def rescaled(model: CompressedModel, factor: float) -> CompressedModel:
    stored = {
        name: each if each.scale is None else replace(each, scale=each.scale * factor)
        for name, each in model.stored.items()
    }
    return replace(model, stored=stored)


RECOVERY = Recovery(
    trainer=Rescale(), rungs=(TrainingRung(3, 2), TrainingRung(2, 1)), batch_rows=50, seed=5
)
