"""Outputs of an exported model through ONNX Runtime, and of our own simulation, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import onnxruntime as ort
import torch
from torch import Tensor

from paredown.compressors.onnx.lowering import output_names
from paredown.compressors.storage.compressed import CompressedModel
from paredown.search.evaluating.training_rows import channels_last
from paredown.search.tasks.splits import Inputs, Split, Targets, of_length
from paredown.spaces.capture.capturing import as_inputs
from paredown.spaces.graph.graph import Graph
from paredown.spaces.structure.dynamic_values import finds_ranges

Outputs = tuple[Tensor, ...]

_CHUNK_ROWS = 32
"""Activations of the simulation then stay in the cache, as when candidates are scored."""


def both_ends(graph: Graph, inputs: Sequence[Tensor]) -> tuple[Inputs, ...]:
    """The inputs at the shortest and at the longest length that the graph is for; none without time."""
    if not graph.timed:
        return ()
    return tuple(of_length(list(inputs), length) for length in graph.lengths)


def onnx_outputs(
    session: ort.InferenceSession, graph: Graph, split: Split, rows: int | None = None
) -> Iterator[tuple[Outputs, Targets]]:
    """Outputs and targets of the first `rows` rows, in order, some dozens at a time."""
    for batch, targets in split.batches(_CHUNK_ROWS, rows):
        yield run_onnx(session, graph, as_inputs(graph, batch)), targets


def simulated_outputs(
    model: CompressedModel, split: Split, rows: int | None = None
) -> Iterator[tuple[Outputs, Targets]]:
    """As `onnx_outputs`, from our own run of the compressed model."""
    for batch, targets in split.batches(_CHUNK_ROWS, rows):
        yield _simulated(model, as_inputs(model.blueprint.graph, batch)), targets


def both_outputs(
    session: ort.InferenceSession, model: CompressedModel, split: Split, rows: int | None = None
) -> Iterator[tuple[Outputs, Outputs, Targets]]:
    """As `onnx_outputs`, with the simulation's outputs second; the two run side by side."""
    graph = model.blueprint.graph
    with ThreadPoolExecutor(max_workers=1) as beside:
        for batch, targets in split.batches(_CHUNK_ROWS, rows):
            inputs = as_inputs(graph, batch)
            through = beside.submit(run_onnx, session, graph, inputs)
            simulated = _simulated(model, inputs)
            yield through.result(), simulated, targets


def _simulated(model: CompressedModel, inputs: Sequence[Tensor]) -> Outputs:
    with torch.no_grad():
        return model([channels_last(x) for x in inputs])


def run_onnx(session: ort.InferenceSession, graph: Graph, inputs: Sequence[Tensor]) -> Outputs:
    """Outputs for any number of rows, in batches of the size the file is made for.

    All rows go at once where any batch will do. It will not where ranges are found in the run: those are
    of the rows that run together, in the simulation as many as costs are for. The last batch is filled up
    by repeating its last row; what comes of that is cut off.
    """
    names = list(output_names(graph))
    count = inputs[0].shape[0]
    parts: list[Outputs] = []
    step = count if graph.any_batch and not finds_ranges(graph) else graph.batch_size
    for start in range(0, count, step):
        index = torch.arange(start, start + step).clamp(max=count - 1)
        feeds = {n: t[index].numpy() for n, t in zip(graph.inputs, inputs, strict=True)}
        parts.append(tuple(torch.from_numpy(array) for array in session.run(names, feeds)))
    return tuple(torch.cat(values)[:count] for values in zip(*parts, strict=True))
