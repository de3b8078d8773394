"""One scale for each output of a linear layer, against one for every 128 or 32 of its inputs.

    PAREDOWN_DATA=... python benchmarks/operators/group_scales.py [--steps 1200] [--timing-only]

First a small transformer learns the next character of `PAREDOWN_DATA/text/tinyshakespeare.txt` (two
blocks of width 192, contexts of 64, a few minutes). Its linear layers are then stored with 4, 3
and 2 bits: bits for each of their weights with scales, the share of their outputs' energy that is
lost, averaged over layers, and the loss on 16,384 held-out characters, against the uncompressed
model. Biases take what moves an output's mean. No weights are trained after compression.

Then the same shares for invented layers of 256 x 1024 with correlated inputs, whose weights are
normal or have heavy tails (Student's t, three degrees of freedom).

Last the time of one linear layer of 1024 x 1024 at one row in ONNX Runtime, one thread, against
the same layer in float: sessions interleaved.

What was found. The small transformer's weights have no tails: with GPTQ groups of 128 inputs, for
0.18 bits a weight, lose 0.83 of the energy at 4 bits, 0.86 at 3 and 0.79 at 2, and the loss at 2
bits rises by 0.10 instead of 0.22. Groups of 32 cost 0.87 bits and are no match for another bit. In
heavy tails groups of 32 at 3 bits lose 0.34 of what 3 bits lose, and less than 4 bits with one scale.
The runtime's kernel for narrow weights is slower with groups of 32 than with one scale for each output,
which is spread over blocks of 128: 1.3 times in 8 and 4 bits, 2.5 times in 2.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from reader import CONTEXT, batches, learn, read_arguments, read_text
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.layers import Database, Problem, compress
from paredown.compressors.matrix import centred_gram, row_errors, to_matrix
from paredown.compressors.models import assemble
from paredown.compressors.onnx import lower
from paredown.compressors.rounding import Target
from paredown.compressors.statistics import collect_statistics
from paredown.compressors.storage import CompressedModel
from paredown.hardware_models.timing import fingerprint, measure_latencies
from paredown.search.calibrating import imagine
from paredown.spaces.candidates import Candidate, GroupSize, LayerChoice, Method, WeightBits, draft
from paredown.spaces.capture import capture
from paredown.spaces.structure import Layer, read_model_map

BITS: tuple[WeightBits, ...] = (4, 3, 2)
SIZES: tuple[GroupSize, ...] = (0, 128, 32)
METHODS: tuple[Method, ...] = ("rtn", "gptq", "descent")
TEST_BATCHES = 8
TIMED_BITS: tuple[WeightBits, ...] = (8, 4, 2)
TIMED_SIZES: tuple[GroupSize, ...] = (0, 128, 64, 32)


def test_loss(model: CompressedModel, ids: Tensor) -> float:
    """Mean loss, in nats a character, on held-out text."""
    losses = []
    with torch.no_grad():
        for inputs, targets in batches(ids, TEST_BATCHES, seed=2):
            (logits,) = model([inputs])
            losses.append(float(F.cross_entropy(logits.flatten(0, 1), targets.flatten())))
    return sum(losses) / len(losses)


def energy_lost(database: Database, layer: Layer, choice: LayerChoice) -> float:
    """Share of the layer's output energy about its mean that the choice loses."""
    statistics = database.statistics[layer.name]
    gram = centred_gram(statistics.gram, statistics.input_mean)
    dense = to_matrix(database.tensors[layer.weight], layer)
    found = database.solution(layer, choice, {}).matrix
    return float(row_errors(found - dense, gram).sum() / row_errors(dense, gram).sum())


def compare_choices(steps: int) -> None:
    """Prints a row for each width, group size and method."""
    learned, held_out, kinds = read_text()
    model = learn(learned, kinds, steps)
    captured = capture(model, torch.zeros(1, CONTEXT, dtype=torch.int64))
    model_map = read_model_map(captured)
    inputs = [[ids] for ids, _ in batches(learned, 8, seed=3)]
    statistics = collect_statistics(captured.graph, captured.tensors, model_map.layers, inputs)
    database = Database(model_map, captured.tensors, statistics, {})
    layers = [layer for layer in model_map.layers if layer.kind == "linear"]
    before = test_loss(assemble(Candidate.of(), database), held_out)
    count = sum(layer.weight_count for layer in layers)
    print(
        f"{len(layers)} linear layers, {count:,} weights; {steps} steps; loss {before:.4f} nats\n"
    )
    print(f"{'bits':>4} {'inputs a scale':>14} {'method':>8} {'bits a weight':>14}", end=" ")
    print(f"{'energy lost':>12} {'loss':>8} {'rise':>8}")
    for bits in BITS:
        for size in SIZES:
            for method in METHODS:
                choice = LayerChoice(weight_bits=bits, method=method, group_size=size)
                found = assemble(Candidate.of(layers={x.name: choice for x in layers}), database)
                stored = [found.blueprint.storage[layer.weight].packed_bytes for layer in layers]
                lost = [energy_lost(database, layer, choice) for layer in layers]
                after = test_loss(found, held_out)
                row = f"{bits:4} {size or 'all':>14} {method:>8} {8 * sum(stored) / count:14.3f}"
                print(
                    f"{row} {sum(lost) / len(lost):12.5f} {after:8.4f} {after - before:+8.4f}",
                    flush=True,
                )


def invented_layers() -> None:
    """Prints a row for each width and group size: shares of energy lost by every method."""
    torch.manual_seed(0)
    rows, columns = 256, 1024
    mix = torch.randn(columns, columns, dtype=torch.float64) / columns**0.5
    gram = mix @ mix.t() + 0.1 * torch.eye(columns, dtype=torch.float64)
    tails = {"normal": math.inf, "heavy tails": 3.0}
    print(
        f"\n{rows} x {columns}: energy lost\n{'weights':12} {'bits':>4} {'inputs a scale':>14}",
        end="",
    )
    print(*(f"{method:>10}" for method in METHODS))
    for name, freedom in tails.items():
        draw = torch.distributions.StudentT(freedom) if freedom < math.inf else None
        shape = (rows, columns)
        weight = torch.randn(shape) if draw is None else draw.sample(shape)
        whole = row_errors(weight, gram).sum()
        for bits in BITS:
            for size in SIZES:
                lost = []
                for method in METHODS:
                    choice = LayerChoice(weight_bits=bits, method=method, group_size=size)
                    found = compress(Problem(target=Target.of(weight, gram)), choice)
                    lost.append(float(row_errors(found.dense() - weight, gram).sum() / whole))
                shares = "".join(f"{share:11.5f}" for share in lost)
                print(f"{name:12} {bits:4} {size or 'all':>14}{shares}", flush=True)


def time_layer() -> None:
    """Prints how long one row takes through 1024 x 1024 weights in every form."""
    model_map = read_model_map(capture(nn.Linear(1024, 1024).eval(), torch.zeros(1, 1024)))
    (layer,) = model_map.layers
    offered = product(TIMED_BITS, TIMED_SIZES)
    choices = [LayerChoice(), *(LayerChoice(weight_bits=b, group_size=s) for b, s in offered)]
    drafted = [draft(model_map, Candidate.of(layers={layer.name: c})) for c in choices]
    files = [lower(imagine(each, seed=0)).SerializeToString() for each in drafted]
    times = [each.mean_s for each in measure_latencies(files, instances=3, blocks=60)]
    print(f"\n{fingerprint(1)}\n1024 x 1024 at one row")
    for choice, seconds, file in zip(choices, times, files, strict=True):
        what = "float" if choice.weight_bits == 32 else f"{choice.weight_bits} bits"
        groups = f", {choice.group_size} inputs a scale" if choice.group_size else ""
        gain = times[0] / seconds
        size = f"{len(file) / 1e6:.2f} MB"
        print(f"{what + groups:28} {1e6 * seconds:8.1f} µs {gain:6.2f} times float {size:>9}")


def main() -> None:
    """Reads the arguments and prints both tables."""
    arguments = read_arguments(__doc__)
    torch.set_num_threads(1)
    if not arguments.timing_only:
        compare_choices(arguments.steps)
        invented_layers()
    time_layer()


if __name__ == "__main__":
    main()
