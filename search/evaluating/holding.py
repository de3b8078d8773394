"""Holds what a search works on against the user's module, before anything else is done with it.

The graph must give what the module gives, and the ONNX file what the graph gives: both are tried on rows
of the task's own data, and the first value that differs is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as refusals
from torch import Tensor

from paredown.compressors.onnx.kernel_checks import session
from paredown.compressors.onnx.lowering import lower, traced_names
from paredown.compressors.onnx.plan import ExportError
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.search.evaluating.runtime_outputs import both_ends, run_onnx
from paredown.search.tasks.metrics import MetricError
from paredown.search.tasks.splits import Inputs, Split
from paredown.search.tasks.task import Task
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.graph.capturing import Captured, as_inputs
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Node
from paredown.spaces.graph.hold import disagreement
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.model_map import ModelMap

_ROWS = 32
_FILE_ROWS = 4
_REFUSALS = (
    refusals.Fail,
    refusals.InvalidArgument,
    refusals.InvalidGraph,
    refusals.NotImplemented,
    refusals.RuntimeException,
)


def held_rows(task: Task) -> Inputs:
    """The rows that modules and graphs are held on: the first of the search split, prepared."""
    split = task.splits.search
    return split.rows(0, min(_ROWS, len(split)))[0]


def check_metric(task: Task, graph: float, module: float, rows: int) -> None:
    """Refuses a graph that scores differently from its module.

    Args:
        graph: The uncompressed graph's metric on the first `rows` rows of the search split.
        module: That of the user's own module, on the same rows.

    Raises:
        MetricError: They differ by more than rounding.
    """
    # Rounding may tip a row or two; everything else has been held value by value.
    if not abs(module - graph) <= 0.01 * abs(module) + 2 / rows:
        raise MetricError(
            f"the graph read off {type(task.module).__name__} must score as the module does, got "
            f"{task.metric.name} {graph:.4g} where the module has {module:.4g} on {rows} rows; make its "
            "forward depend on the rows' values alone, and not on which rows come together"
        )


def check_files(captured: Mapping[str, Captured], space: Space, split: Split) -> None:
    """Refuses networks whose ONNX file gives something else in ONNX Runtime than their graph.

    Raises:
        ExportError: An operator has no lowering, ONNX Runtime refuses the file, or an output differs;
            the message names the first value that does.
    """
    for architecture in space.architectures:
        name = architecture.name
        _check_file(captured[name], architecture.model_map, name, split)


def _check_file(captured: Captured, model_map: ModelMap, architecture: str, split: Split) -> None:
    model = CompressedModel(
        blueprint=draft(model_map, Candidate(architecture=architecture)),
        stored={name: StoredTensor.unchanged(t) for name, t in captured.tensors.items()},
    )
    proto = lower(model)
    graph = captured.graph
    batch = split.rows(0, min(max(_FILE_ROWS, graph.batch_size), len(split)))[0]
    rows = as_inputs(graph, batch)
    for inputs in (rows, *(as_inputs(graph, each) for each in both_ends(graph, rows))):
        _check_rows(model, proto, inputs)


def _check_rows(model: CompressedModel, proto: onnx.ModelProto, inputs: Sequence[Tensor]) -> None:
    with torch.no_grad():
        wanted = model(inputs)
    try:
        running = session(proto.SerializeToString(), exact=True)
        found = run_onnx(running, model.blueprint.graph, inputs)
    except _REFUSALS as error:
        raise ExportError(
            f"ONNX Runtime must run the exported network, got {str(error).splitlines()[0]}; write that "
            "part of the model with other operators"
        ) from error
    worst = disagreement(wanted, found)
    if worst is not None:
        raise ExportError(
            f"the ONNX file must give what the network gives, got outputs that differ by {worst}, first "
            f"in {_first_other(model, proto, inputs)}; write that part of the model with other operators"
        )


def _first_other(model: CompressedModel, proto: onnx.ModelProto, inputs: Sequence[Tensor]) -> str:
    """The first value of the graph that the file computes differently, with its operator."""
    graph = model.blueprint.graph
    rows = torch.arange(graph.batch_size).clamp(max=len(inputs[0]) - 1)
    inputs = [x[rows] for x in inputs]
    theirs = _all_values(proto, dict(zip(graph.inputs, inputs, strict=True)))
    names = traced_names(model.blueprint, tuple(graph.by_name))
    other: list[Node] = []

    def _look(node: Node, _: Arguments, output: Result) -> Result:
        written = sorted(names[node.name] & theirs.keys())
        if isinstance(output, Tensor) and written and not other:
            found = torch.from_numpy(theirs[written[0]])
            if disagreement((output,), (found.reshape(output.shape),)) is not None:
                other.append(node)
        return output

    with torch.no_grad():
        model(inputs, after=_look)
    if other:
        return f"value {other[0].name!r} ({other[0].op})"
    return f"the outputs {', '.join(graph.outputs)}"


def _all_values(proto: onnx.ModelProto, feeds: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Every value that the file's operators make, by its name in the file."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    known = {output.name for output in wide.graph.output}
    for node in wide.graph.node:
        wide.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in node.output if name and name not in known
        )
    running = session(wide.SerializeToString(), exact=True)
    made = running.run(None, {name: x.numpy() for name, x in feeds.items()})
    return {o.name: np.asarray(x) for o, x in zip(running.get_outputs(), made, strict=True)}
