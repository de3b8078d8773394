"""What a bundle says of itself, checked before it is believed: storage, values and graph.

A bundle may have come from anywhere, and may have been damaged on the way. Sizes that it declares are
held against those of its files before memory is asked for them, and the graph is run once on shapes
alone, so that what is loaded can be run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Operator, Storage
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.functions import DYNAMIC_QDQ, QDQ
from paredown.spaces.graph.graph import Arguments, Graph, GraphError, Node, call, run
from paredown.spaces.graph.sizes import Size
from paredown.spaces.system.bounded import parse_json
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

_PLAIN_BYTES = 2**30
_PACKED = 64
"""A file may unpack to a gigabyte, or to so many times its own size: 1 bit is a 32nd of a float,
and a large network of half that size is none any more."""
_ROW_VALUES = 2**24
"""At most so many values of one input's row: an image of 2,300 x 2,300."""
_VALUES = 2**32
"""At most so many values of anything that is computed."""
_PIECES = 2**16
_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 32)
# What operators raise of arguments that do not fit them; no common class is narrower than Exception.
_OPERATOR_ERRORS = (
    *(RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError),
    *(AssertionError, MemoryError),
)
_STORAGE = TypeAdapter(Storage)
_OPERATORS = TypeAdapter(tuple[Operator, ...])


class CheckError(ParedownError):
    """A part of a bundle is not what was exported."""


def read_storage(text: str, file_bytes: int) -> dict[str, Storage]:
    """The storage of every tensor by name, from the description in a file of `file_bytes`.

    Raises:
        CheckError: A description is incomplete, contradicts itself, or would unpack to more than a
            file of that size can hold.
        UnreadableTextError: It is no JSON.
    """
    described = parse_json(text)
    if not isinstance(described, dict):
        raise CheckError(f"the storage of tensors must be a mapping, got {text[:40]!r}")
    found = {name: _storage(name, brief) for name, brief in described.items()}
    unpacked = sum(4 * storage.count for storage in found.values())
    if unpacked > max(_PLAIN_BYTES, _PACKED * file_bytes):
        raise CheckError(
            f"tensors must fit their file, got {unpacked:,} bytes unpacked from {file_bytes:,}"
        )
    return found


def check_values(name: str, tensor: StoredTensor) -> None:
    """Nothing, if the tensor can be computed with: scales are above zero, and nothing is NaN.

    Raises:
        CheckError: It cannot.
    """
    scale = tensor.scale
    if scale is not None and not bool((scale.isfinite() & (scale > 0)).all()):
        raise CheckError(f"scales must be above zero and finite, got others in tensor {name!r}")
    # Infinite values are no mistake: an attention mask is made of them.
    if tensor.values.is_floating_point() and bool(tensor.values.isnan().any()):
        raise CheckError(f"tensors must hold numbers, got NaN in {name!r}")


def read_operators(data: Json) -> tuple[Operator, ...]:
    """The layers of a bundle's graph.

    Raises:
        CheckError: A field is missing, unknown or of another type.
    """
    try:
        return _OPERATORS.validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise CheckError(f"operators: {_first(error)}") from None


def check_model(model: CompressedModel) -> None:
    """Nothing, if the graph runs on the model's tensors and gives the shapes it says.

    It is run once on shapes alone, which takes neither memory nor time.

    Raises:
        GraphError: A name is unknown, used before it is there or given twice, or an operator does
            not fit its arguments.
    """
    graph = model.blueprint.graph
    _check_names(graph, model.stored)
    for operator in model.blueprint.operators:
        reads = {operator.weight, operator.bias} - {None}
        if operator.node not in graph.by_name or not reads <= model.stored.keys():
            raise GraphError(f"graph: layer {operator.layer!r} has no node or no tensor")
    inputs = [
        _meta(shape, getattr(torch, dtype))
        for shape, dtype in zip(graph.input_shapes, graph.input_dtypes, strict=True)
    ]
    tensors = {name: _meta(t.storage.shape, _dense_type(t)) for name, t in model.stored.items()}
    run(graph, tensors, inputs, after=_check_output, compute=_compute)


def check_onnx(path: Path) -> None:
    """Nothing, if the ONNX file holds all its tensors itself: a bundle's never names other files.

    Raises:
        CheckError: A tensor lies in another file.
    """
    model = onnx.load(path, load_external_data=False)
    for tensor in _onnx_tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise CheckError(f"tensors must lie in the file itself, {tensor.name!r} is elsewhere")


def _onnx_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Initialisers and constants, those of graphs in nodes too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _onnx_tensors(inner)


def _check_names(graph: Graph, stored: Mapping[str, StoredTensor]) -> None:
    """Names are there before they are used, and inputs are as they must be to be made up."""
    known = set(graph.inputs)
    if not known or len(known) != len(graph.inputs):
        raise GraphError(f"graph: inputs must have names of their own, got {graph.inputs}")
    for shape, dtype in zip(graph.input_shapes, graph.input_dtypes, strict=True):
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise GraphError(f"graph: unknown type {dtype!r} of an input")
        is_shape = bool(shape) and all(type(size) is int and size > 0 for size in shape)
        if not is_shape or math.prod(shape[1:]) > _ROW_VALUES or shape[0] > _PIECES:
            raise GraphError(f"graph: no input has the shape {str(shape)[:80]}")
    shortest, longest = graph.lengths
    has_time = all(len(graph.shape_of(n)) > 1 for n in graph.timed if n in graph.inputs)
    if graph.timed and not (
        has_time and set(graph.timed) <= set(graph.inputs) and 0 < shortest <= longest <= _PIECES
    ):
        raise GraphError(f"graph: inputs {graph.timed} cannot have lengths {graph.lengths}")
    for node in graph.nodes:
        unknown = [n for n in node.inputs if n not in known and n not in stored]
        if unknown or node.name in known:
            what = f"reads {unknown[0]!r}, which is not there yet" if unknown else "is there twice"
            raise GraphError(f"graph: node {node.name!r} {what}")
        known.add(node.name)
        _check_quantiser(node)
    keys = set(graph.output_keys)
    if not known.issuperset(graph.outputs) or not (
        0 < len(keys) == len(graph.output_keys) == len(graph.outputs)
    ):
        raise GraphError(f"graph: outputs must be values with keys, got {graph.outputs}")


def _check_quantiser(node: Node) -> None:
    """Whether a node that makes 8-bit codes has a scale, limits and rows that mean something."""
    if node.op == QDQ:
        _, scale, zero_point, low, high = node.args
        holds = 0 < scale < math.inf and -128 <= low <= zero_point <= high <= 255
    elif node.op == DYNAMIC_QDQ:
        rows, axis, outside = node.args[1:]
        numbers = [size for size in (rows, outside) if not isinstance(size, Size)]
        holds = all(type(each) is int and each >= 1 for each in numbers) and type(axis) is int
    else:
        return
    if not holds:
        raise GraphError(f"graph: node {node.name!r} must make 8-bit codes, got {node.args[1:]}")


def _compute(node: Node, arguments: Arguments) -> Result:
    if node.facts.has_several_outputs and max(arguments[0].shape) > _PIECES:
        raise GraphError(f"graph: node {node.name!r} would make over {_PIECES:,} pieces")
    try:
        return call(node, arguments)
    except _OPERATOR_ERRORS as error:
        first = (str(error).splitlines() or [""])[0][:200]
        raise GraphError(
            f"graph: node {node.name!r} ({node.op}) does not fit its arguments: {first}"
        ) from error


def _check_output(node: Node, arguments: Arguments, output: Result) -> Result:
    values = [output] if isinstance(output, Tensor) else list(output)
    if any(value.numel() > _VALUES for value in values):
        raise GraphError(f"graph: node {node.name!r} would make over {_VALUES:,} values")
    if isinstance(output, Tensor) and tuple(output.shape) != node.shape:
        raise GraphError(
            f"graph: node {node.name!r} must give {str(node.shape)[:80]}, as it says, but gives "
            f"{tuple(output.shape)}"
        )
    return output


def _meta(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _dense_type(tensor: StoredTensor) -> torch.dtype:
    return torch.float32 if tensor.scale is not None else tensor.values.dtype


def _storage(name: str, brief: Json) -> Storage:
    try:
        storage = _STORAGE.validate_json(json.dumps(brief), strict=True)
    except ValidationError as error:
        raise CheckError(f"storage of tensor {name!r}: {_first(error)}") from None
    is_dense = storage.index == "none"
    holds = (
        storage.bits in _WIDTHS
        and all(size >= 0 for size in storage.shape)
        and 0 <= storage.axis < max(1, len(storage.shape))
        and (bool(storage.shape) or (storage.bits == 32 and is_dense))
        and 0 <= storage.kept <= storage.count
        and (not is_dense or storage.kept == storage.count)
        and storage.group_size >= 0
    )
    if not holds:
        raise CheckError(f"storage of tensor {name!r} contradicts itself: {storage}")
    return storage


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
