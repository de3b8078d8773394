"""Zeros and codes trained together, against one after the other in either order, at equal bytes.

    PAREDOWN_DATA=... python benchmarks/training/orders.py [--bits 4] [--zeros 0.6] [--steps 400]

ResNet-20 with weights of few bits and zeros in all layers but the first and the last (8 bits, dense);
activations stay floats. All models end with the same bits and the same count of nonzero weights in every
layer, so the same packed file, which is checked, and all are trained for as many steps in total, by `lsq`
towards the logits of the uncompressed network:

* jointly: zeros and codes are found together, and while they train zeros change places with weights that
  save more; and once more with zeros that stay where they were;
* prune, then quantise: zeros by exact OBS, half of the steps on floats that are left, then codes for
  these, and the other half;
* quantise, then prune: codes first and half of the steps on these, then zeros by exact OBS among the
  trained weights, codes of the others set anew by coordinate descent, and the other half.

Each half has a schedule of its own, and statistics are collected anew between them. In the orders, zeros
stay; `exchanged` lets them change places in the second half of both.

Held-out is the loss on the 1,000 training images by which the best state is chosen. Divergence
(temperature 2) and accuracy are those of the search split, with the points lost to the uncompressed
network, and those gained by working jointly, paired, and their standard errors.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace

from resnet20 import Bench, Outcome, add_options, open_bench, standard_error

from paredown.compressors.onnx import packed_file_bytes
from paredown.compressors.storage import CompressedModel
from paredown.compressors.training import trainable
from paredown.compressors.training.quantizers import QUANTIZERS
from paredown.compressors.training.quantizers.lsq import Lsq
from paredown.spaces.candidates import DENSE, LayerChoice, Zeros

EXCHANGED, STAYING = "lsq", "lsq, zeros stay"


class Staying(Lsq):
    """`lsq` whose zeros stay where they are."""

    def rank(self, progress: float) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Stage:
    """What is assembled, from the uncompressed network or the stage before, and how it is trained."""

    choice: LayerChoice
    quantizer: str


def orders(bits: int, zeros: float) -> dict[str, tuple[Stage, ...]]:
    """Stages by the name of the order; all end with the same bits and share of zeros."""
    both = LayerChoice(weight_bits=bits, zeros=Zeros(zeros, "element"), method="descent")
    sparse, coded = replace(both, weight_bits=32), replace(both, zeros=DENSE)
    together = replace(both, method="joint")
    found = {
        "jointly": (Stage(together, EXCHANGED),),
        "jointly, zeros stay": (Stage(together, STAYING),),
    }
    for first, name in ((sparse, "prune, then quantise"), (coded, "quantise, then prune")):
        found[name] = Stage(first, STAYING), Stage(both, STAYING)
        found[f"{name}, exchanged"] = Stage(first, STAYING), Stage(both, EXCHANGED)
    return found


def carried_out(
    bench: Bench, stages: tuple[Stage, ...], steps: int, lr: float
) -> tuple[CompressedModel, list[str]]:
    """The model after all stages, and the held-out losses of each in words."""
    losses = []
    for number, stage in enumerate(stages):
        model = bench.assemble(bench.candidate(stage.choice, activation_bits=32))
        found = bench.train(model, stage.quantizer, steps // len(stages), lr)
        curve = [point.held_out_loss for point in found.curve]
        losses.append(f"{curve[0]:.4f} -> {min(curve):.4f}")
        if number < len(stages) - 1:
            bench = bench.of_network(found.model.tensors)
    return found.model, losses


def print_order(name: str, losses: list[str], outcome: Outcome, dense: Outcome) -> None:
    """Prints a line."""
    print(f"{name:32}{outcome.text}  {outcome.gain(dense)} points  held-out {', '.join(losses)}")
    sys.stdout.flush()


def main() -> None:
    """Prints a line for each order, and one for what working jointly gains on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--zeros", type=float, default=0.6, help="share of weights")
    parser.add_argument("--lr", type=float, default=8e-3)
    names = list(orders(4, 0.5))
    parser.add_argument("--orders", nargs="+", choices=names, default=names)
    add_options(parser)
    arguments = parser.parse_args()
    trainable.QUANTIZERS = {**QUANTIZERS, STAYING: Staying}
    bench = open_bench(arguments)
    dense = bench.outcome(bench.data.reference)
    print(f"{arguments.bits} bits, {arguments.zeros:.0%} zeros; uncompressed: {dense.text}")
    found, sizes = {}, set()
    for name, stages in orders(arguments.bits, arguments.zeros).items():
        if name in arguments.orders:
            model, losses = carried_out(bench, stages, arguments.steps, arguments.lr)
            sizes.add(packed_file_bytes(model.blueprint))
            found[name] = bench.outcome(model)
            print_order(name, losses, found[name], dense)
    assert len(sizes) == 1, "all orders must end at one size"
    print(f"all {sizes.pop()} bytes packed, {arguments.steps} steps")
    for name, outcome in found.items():
        if "jointly" in found and name != "jointly":
            nearer = outcome.far - found["jointly"].far
            text = f"divergence {float(nearer.mean()):+.4f} ± {standard_error(nearer):.4f}"
            print(f"jointly gains on {name}: {text}, {found['jointly'].gain(outcome)} points")


if __name__ == "__main__":
    main()
