"""A model trained from a trained neighbour, against one trained from its own training-free start.

    PAREDOWN_DATA=... python benchmarks/training/neighbours.py [--steps 150]

ResNet-20 at 2 bits, but 8 bits in the first layer, the last one and all activations. Its neighbours
differ in the bits of some layers alone, where they have 4: in all but the first and the last, or in
every fourth. A neighbour is trained first. What both have in common then starts as trained, codes, scales
and floats alike; layers of other bits are solved anew, with statistics of the neighbour, on its latent
weights, which is what its training would round next.

Compared at the same rate and schedule: the model from its own start, after as many steps and after twice
as many (as many images as a neighbour that would not be trained otherwise costs in addition), and the
model from each neighbour. Held-out is the loss on the 1,000 training images by which the best state is
chosen, at the start and at best. Divergence (temperature 2) and accuracy are those of the search split,
with the points gained on the untrained model, paired, and their standard errors.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from resnet20 import Bench, Outcome, add_options, open_bench

from paredown.compressors.storage import CompressedModel
from paredown.compressors.training import Trainable, Trained, View
from paredown.spaces.candidates import Candidate, LayerChoice

QUANTIZER = "lsq"
BITS, MORE_BITS = 2, 4
NEIGHBOURS = {"4 bits in all layers": 1, "4 bits in every fourth layer": 4}
"""By name: of so many layers one has more bits."""


def candidates(bench: Bench) -> tuple[Candidate, dict[str, Candidate]]:
    """The candidate, and its neighbours by name."""
    low, high = (LayerChoice(weight_bits=b, method="descent") for b in (BITS, MORE_BITS))
    own = bench.candidate(low, activation_bits=8)
    inner = [layer.name for layer in bench.database.model_map.layers][1:-1]
    found = {}
    for name, apart in NEIGHBOURS.items():
        layers = dict(own.layers) | dict.fromkeys(inner[::apart], high)
        found[name] = replace(own, layers=tuple(sorted(layers.items())))
    return own, found


def started_from(
    bench: Bench, candidate: Candidate, neighbour: CompressedModel, trained: Trained
) -> Trainable:
    """The model of `candidate`, its layers that a neighbour has too as that was trained.

    Args:
        neighbour: As it was before `trained` was made of it.
    """
    latent = {
        name: trained.state[f"{_attribute(name)}.latent"]
        for name, tensor in neighbour.stored.items()
        if tensor.scale is not None
    }
    known = {**bench.data.reference.tensors, **trained.model.tensors, **latent}
    solved = bench.of_network(known).assemble(candidate)
    shared = {
        _attribute(name)
        for operator in solved.blueprint.operators
        if solved.stored[operator.weight].storage == neighbour.stored[operator.weight].storage
        for name in (operator.weight, operator.bias)
        if name is not None
    }
    found = Trainable(solved, View(quantizer=QUANTIZER), known)
    taken = {
        key: tensor
        for key, tensor in trained.state.items()
        if key.partition(".")[0] in shared | {"scales"}
    }
    found.load_state_dict({**found.state_dict(), **taken})
    return found


def _attribute(name: str) -> str:
    """What a tensor is called in the state of a `Trainable`."""
    return f"tensor_{name.replace('.', '|')}"


def print_line(name: str, outcome: Outcome, untrained: Outcome, trained: Trained | None) -> None:
    """Prints what came of a model."""
    gained = "" if outcome is untrained else f"  {outcome.gain(untrained)} points"
    held_out = [] if trained is None else [point.held_out_loss for point in trained.curve]
    course = f"  held-out {held_out[0]:.4f} -> {min(held_out):.4f}" if held_out else ""
    print(f"{name:44}{outcome.text}{gained}{course}")
    sys.stdout.flush()


def main() -> None:
    """Prints a line for each start and training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=8e-3)
    add_options(parser)
    arguments = parser.parse_args()
    bench = open_bench(arguments)
    steps, lr = arguments.steps, arguments.lr
    candidate, neighbours = candidates(bench)
    print(f"uncompressed: {bench.outcome(bench.data.reference).text}; {steps} steps, lr {lr:g}")
    start = bench.assemble(candidate)
    untrained = bench.outcome(start)
    print_line("not trained", untrained, untrained, None)
    for count in (steps, 2 * steps):
        found = bench.train(start, QUANTIZER, count, lr)
        print_line(f"own start, {count} steps", bench.outcome(found.model), untrained, found)
    for name, choice in neighbours.items():
        before = bench.assemble(choice)
        trained = bench.train(before, QUANTIZER, steps, lr)
        print_line(f"{name}, {steps} steps", bench.outcome(trained.model), untrained, trained)
        near = started_from(bench, candidate, before, trained)
        model = near.freeze()
        print_line("  at 2 bits, not trained", bench.outcome(model), untrained, None)
        found = bench.train(model, QUANTIZER, steps, lr, near.state_dict())
        print_line(f"  and {steps} steps", bench.outcome(found.model), untrained, found)


if __name__ == "__main__":
    main()
