"""Linear layers whose 8-bit inputs get their range in every run: codes in, floats out.

DynamicQuantizeLinear gives codes, scale and zero point; MatMulInteger, Cast and Mul make floats of
the product of codes. ONNX Runtime 1.31 fuses all of it and the addition of a bias, into
DynamicQuantizeMatMul, or into MatMulIntegerToFloat where several layers read the same codes; an
activation behind it stays its own.
"""

from __future__ import annotations

from onnx import TensorProto

from paredown.compressors.onnx.emitter import Emitter
from paredown.spaces.graph.graph import Graph, Node
from paredown.spaces.graph.recurrent import GATES


def fused_kernel(graph: Graph, node: Node) -> str:
    """The runtime's kernel for a linear layer that `reads_own_range`."""
    readers = graph.users[node.args[0].name]
    return "DynamicQuantizeMatMul" if len(readers) == 1 else "MatMulIntegerToFloat"


def find_range(e: Emitter, node: Node) -> None:
    """Codes, scale and zero point of a value, for the linear layers that read them."""
    if all(user.op == GATES for user in e.graph.users[node.name]):
        return  # the operator of the steps finds the range itself
    outputs = e.plan.emit_many("DynamicQuantizeLinear", (e.value(node.args[0]),), 3)
    e.put_several(node, outputs, None)


def lower_by_range(e: Emitter, node: Node) -> None:
    """A linear layer that `reads_own_range`."""
    x, weight, bias = node.args
    codes, scale, zero_point = e.several(x)
    integers = e.weight(weight, transposed=True, reading="bare")
    product = e.plan.emit("MatMulInteger", codes, integers, zero_point)
    floats = e.plan.emit("Cast", product, to=int(TensorProto.FLOAT))
    both = e.plan.emit("Mul", scale, e.weights.scales(weight.name))
    scaled = e.plan.emit("Mul", floats, both)
    e.put(node, scaled if bias is None else e.plan.emit("Add", scaled, e.weight(bias)))
