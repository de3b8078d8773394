"""Bytes of both files before they exist, equal to what is written.

A protobuf message is a tag and a length before every field, so its size follows from structure; a
safetensors file is a JSON header, padded to 8 bytes, before the packed tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache

from paredown.compressors.onnx.lowering import plan_of
from paredown.compressors.onnx.plan import (
    PRODUCER,
    Attribute,
    Initialiser,
    OnnxNode,
    Plan,
    Value,
)
from paredown.compressors.storage.packing import TYPES, entries, metadata
from paredown.spaces.candidates.blueprint import ITEM_BYTES, Blueprint

_ITEM_BYTES = {TYPES[name]: size for name, size in ITEM_BYTES.items()}
_ORDER = {name: place for place, name in enumerate(TYPES.values())}
_ALIGNMENT = 8


def file_sizes() -> dict[str, Callable[[Blueprint], float]]:
    """The metrics of both files, and what gives them."""
    return {"onnx_bytes": onnx_file_bytes, "packed_bytes": packed_file_bytes}


def onnx_file_bytes(blueprint: Blueprint) -> int:
    """Bytes of model.onnx."""
    return plan_bytes(plan_of(blueprint))


def packed_file_bytes(blueprint: Blueprint) -> int:
    """Bytes of model.safetensors: length of the header (8), header, packed tensors."""
    found = {k: v for n, s in blueprint.storage.items() for k, v in entries(n, s).items()}
    # safetensors sorts by type, its last one first, then by name
    order = sorted(found.items(), key=lambda item: (-_ORDER[item[1][0]], item[0].encode()))
    header: dict[str, object] = {"__metadata__": metadata(blueprint.storage)}
    offset = 0
    for name, (dtype, shape) in order:
        end = offset + _ITEM_BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // _ALIGNMENT) * _ALIGNMENT + offset


def plan_bytes(plan: Plan) -> int:
    """Bytes of the serialised ModelProto of a plan."""
    graph = _text("g")
    graph += sum(_framed(_node_bytes(node)) for node in plan.nodes)
    graph += sum(_framed(_initialiser_bytes(i)) for i in plan.initialisers)
    graph += sum(_framed(_value_bytes(v)) for v in (*plan.inputs, *plan.outputs))
    opsets = _framed(_integer(plan.opset))
    opsets += sum(_framed(_text(domain) + _integer(1)) for domain in plan.domains)
    usual = sum(_framed(_text(axis) + _text(str(size))) for axis, size in plan.usual_sizes)
    return _integer(plan.ir_version) + _text(PRODUCER) + _framed(graph) + opsets + usual


def _node_bytes(node: OnnxNode) -> int:
    names = sum(_text(name) for name in (*node.inputs, *node.outputs))
    kind = _text(node.op_type) + (_text(node.domain) if node.domain else 0)
    return names + kind + sum(_framed(_attribute_bytes(*a)) for a in node.attributes)


@lru_cache(maxsize=4096, typed=True)  # 1 and 1.0 differ in size
def _attribute_bytes(name: str, value: Attribute) -> int:
    kind = 3  # the type's field number, 20, takes two bytes of tag
    if isinstance(value, tuple):
        sizes = (_text(v) if isinstance(v, str) else _integer(v) for v in value)
        return _text(name) + kind + sum(sizes)
    if isinstance(value, str):
        return _text(name) + kind + _text(value)
    return _text(name) + kind + (5 if isinstance(value, float) else _integer(value))


def _initialiser_bytes(initialiser: Initialiser) -> int:
    dims = sum(_integer(d) for d in initialiser.dims)
    payload = _framed(initialiser.payload_bytes)
    return dims + _integer(initialiser.data_type) + _text(initialiser.name) + payload


def _value_bytes(value: Value) -> int:
    shape = sum(_framed(_text(d) if isinstance(d, str) else _integer(d)) for d in value.dims)
    return _text(value.name) + _framed(_framed(_integer(value.data_type) + _framed(shape)))


def _framed(length: int) -> int:
    """A field of `length` bytes with its tag and its length."""
    return 1 + _varint(length) + length


def _text(text: str) -> int:
    return _framed(len(text.encode()))


def _integer(value: int) -> int:
    return 1 + _varint(value)


def _varint(value: int) -> int:
    """Bytes of a base-128 integer; negative ones are sign-extended to 64 bits."""
    return 10 if value < 0 else max(1, -(-value.bit_length() // 7))
