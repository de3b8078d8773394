"""What solving layers again after compression gives back, against moments alone and nothing.

    PAREDOWN_DATA=... python benchmarks/compressors/refit.py [--only blocks|groups|bits] [--images N]

ResNet-20 on CIFAR-10, each droppable block skipped, each channel group at half width, and every layer's
weights at 2 bits, one after the other. Each row holds the points of accuracy lost against the
uncompressed model, as paired differences with their standard errors on the first images of the search
split:

* nothing: channels cut, codes solved for the dense model's inputs, all else as it was;
* moments: the same model, the mean and deviation of every layer's outputs put back to the dense ones;
* refit: as the search does, every layer solved again for the inputs it really gets.

`--only blocks`, `--only groups` or `--only bits` prints one part, `--images 500` scores fewer.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from paredown.compressors.layers import Database, Problem, compress, reestimate, row_curvature
from paredown.compressors.matrix import centred_gram, from_matrix, to_matrix
from paredown.compressors.rounding import Target
from paredown.compressors.storage import CompressedModel, StoredTensor
from paredown.search.config import load_config
from paredown.search.evaluating import Workbench, channels_last, prepare
from paredown.spaces.candidates import Candidate, LayerChoice, draft
from paredown.spaces.capture import as_inputs
from paredown.spaces.structure import ModelMap, slice_tensors

CONFIG = Path(__file__).parents[2] / "examples" / "cifar10_resnet20.yaml"
PARTS = ("blocks", "groups", "bits")
_BATCH = 50


def candidates(model_map: ModelMap, part: str) -> Iterator[tuple[str, Candidate]]:
    """What is compared, each with its label."""
    if part == "blocks":
        for block in model_map.blocks:
            yield f"without {block.name}", Candidate.of(dropped=(block.name,))
    elif part == "groups":
        for group in model_map.groups:
            half = group.channels // 2
            label = f"{group.name} at {half} of {group.channels}"
            yield label, Candidate.of(widths={group.name: half})
    else:
        choice = LayerChoice(weight_bits=2, method="descent")
        layers = {layer.name: choice for layer in model_map.layers}
        yield "2-bit weights in every layer", Candidate.of(layers=layers)


def unrepaired(candidate: Candidate, database: Database) -> CompressedModel:
    """The candidate with channels cut and codes solved for dense inputs; nothing makes up for it.

    For candidates that are not narrowed and quantised at once, and have no low-rank layers.
    """
    model_map, tensors = database.model_map, dict(database.tensors)
    blueprint = draft(model_map, candidate)
    keep = database.keep(dict(candidate.widths))
    sliced = slice_tensors(model_map, {n: tensors[n] for n in blueprint.storage}, keep)
    stored = {name: StoredTensor.of_floats(tensor) for name, tensor in sliced.items()}
    for operator in blueprint.operators:
        choice = candidate.layer(operator.layer)
        if choice.is_identity:
            continue
        layer = model_map.layer_by_name[operator.layer]
        statistics = database.statistics[layer.name]
        gram = centred_gram(statistics.gram, statistics.input_mean)
        problem = Problem(
            target=Target.of(to_matrix(tensors[layer.weight], layer), gram),
            row_curvature=row_curvature(statistics, None),
        )
        found = compress(problem, choice)
        stored[operator.weight] = StoredTensor(
            storage=blueprint.storage[operator.weight],
            values=from_matrix(found.values, layer).contiguous(),
            scale=found.scale,
        )
    return CompressedModel(blueprint=blueprint, stored=stored)


def with_moments(
    model: CompressedModel, candidate: Candidate, database: Database, inputs: list[Tensor]
) -> CompressedModel:
    """The model with every layer's output moments put back to the dense model's, in one pass."""
    layers, widths = database.model_map.layer_by_name, dict(candidate.widths)
    targets = {
        operator.node: database.output_moments(layers[operator.layer], widths)
        for operator in model.blueprint.operators
    }
    return reestimate(model, targets, inputs)


def answers(workbench: Workbench, model: CompressedModel, images: int) -> Tensor:
    """Whether each answer is right, (images,) of 1 and 0."""
    right = []
    with torch.no_grad():
        for inputs, labels in workbench.task.splits.search.batches(_BATCH, images):
            prepared = [channels_last(x) for x in as_inputs(model.blueprint.graph, inputs)]
            right.append((model(prepared)[0].argmax(1) == labels).double())
    return torch.cat(right)


def lost(right: Tensor, dense: Tensor) -> str:
    """Points lost and their standard error."""
    points = 100 * (dense - right)
    return f"{float(points.mean()):6.2f} ± {float(points.std()) / math.sqrt(len(points)):.2f}"


def compare(workbench: Workbench, parts: tuple[str, ...], images: int) -> None:
    """Prints the table, a row as soon as it is known."""
    (database,) = workbench.databases.values()
    dense = answers(workbench, workbench.assemble(workbench.uncompressed()), images)
    print(f"uncompressed: {100 * float(dense.mean()):.2f} % of {images} images; points lost:")
    print(f"{'':34s}{'nothing':>14s}{'moments':>16s}{'refit':>16s}", flush=True)
    for label, candidate in (each for p in parts for each in candidates(database.model_map, p)):
        plain = unrepaired(candidate, database)
        moments = with_moments(plain, candidate, database, workbench.evaluator.calibration)
        refitted = workbench.assemble(candidate)
        cells = [lost(answers(workbench, m, images), dense) for m in (plain, moments, refitted)]
        print(f"{label:34s}" + "".join(f"{cell:>16s}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--only", choices=PARTS)
    arguments = parser.parse_args()
    if "PAREDOWN_DATA" not in os.environ:
        sys.exit("PAREDOWN_DATA must name the folder with cifar10_jpeg/ and weights/; set it")
    torch.set_num_threads(1)
    workbench = prepare(load_config(CONFIG, ["hardware.latency=roofline"]))
    parts = (arguments.only,) if arguments.only else PARTS
    compare(workbench, parts, arguments.images)


if __name__ == "__main__":
    main()
