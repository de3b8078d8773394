"""Quantisers of weights against each other on ResNet-20, at equal steps and from equal models.

    PAREDOWN_DATA=... python benchmarks/training/quantizers.py [--bits 1 2 3 4] [--steps 400] [--lr RATE]

All layers have the bits of the row, the first and the last one 8; activations are 8-bit codes whose
scales learn. For each number of bits there is one model without training (`descent`, its layers solved
again for the inputs they get where that is done in a search), and every quantiser is trained from there:
the same images in the same order, towards the logits of the uncompressed network, without labels. Each
has the learning rate that `RATES` gives it, found at 2 bits on held-out rows, or each of `--lr`.

Held-out is the loss on the 1,000 training images by which the best state is chosen, at the start and at
that state. Divergence (temperature 2) and accuracy are those of the search split, with the points gained
on the model without training, paired, and their standard error.
"""

from __future__ import annotations

import argparse
import time

from resnet20 import Bench, Outcome, add_options, open_bench

from paredown.compressors.storage import CompressedModel
from paredown.compressors.training.quantizers import QUANTIZERS
from paredown.spaces.candidates import LayerChoice

RATES = {"lsq": 8e-3, "laq": 8e-3, "sat": 8e-3, "frozen": 8e-3}
"""Of 0.008 and 0.024, the better after 100 steps; `frozen` was not seen at 0.024."""


def print_training(
    bench: Bench, start: CompressedModel, before: Outcome, kind: str, steps: int, lr: float
) -> None:
    """Trains and prints a line."""
    begun_s = time.process_time()
    found = bench.train(start, kind, steps, lr)
    step_s = (time.process_time() - begun_s) / steps
    losses = [point.held_out_loss for point in found.curve]
    after = bench.outcome(found.model)
    print(
        f"  {kind:8}{lr:7.3f}  {losses[0]:.4f} -> {min(losses):.4f}  {after.text}  "
        f"{after.gain(before)} points  {step_s:.2f} s a step",
        flush=True,
    )


def main() -> None:
    """Prints a block for each number of bits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, nargs="+", choices=range(1, 9), default=[1, 2, 3, 4])
    parser.add_argument("--quantizers", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS))
    parser.add_argument("--lr", type=float, nargs="+", help="rates that each is trained at")
    add_options(parser)
    arguments = parser.parse_args()
    bench = open_bench(arguments)
    dense = bench.outcome(bench.data.reference)
    print(f"uncompressed: {dense.text}, {len(bench.scored)} images; {arguments.steps} steps")
    for bits in arguments.bits:
        choice = LayerChoice(weight_bits=bits, method="descent")
        start = bench.assemble(bench.candidate(choice, activation_bits=8))
        before = bench.outcome(start)
        print(f"{bits} bits, not trained: {before.text}  {before.gain(dense)} points", flush=True)
        for kind in arguments.quantizers:
            for lr in arguments.lr or (RATES[kind],):
                print_training(bench, start, before, kind, arguments.steps, lr)


if __name__ == "__main__":
    main()
