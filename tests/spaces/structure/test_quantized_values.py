"""Where QDQ nodes go: around what computes, not inside what fuses, never on outputs."""

from __future__ import annotations

from paredown.spaces.graph.functions import QDQ
from paredown.spaces.structure.coded_values import read_coding
from paredown.spaces.structure.quantized_values import code_source, mark_quantized

COMPUTES = ("aten.conv2d.default", "aten.linear.default", "aten.add.Tensor", "aten.cat.default")


def marked(graph):
    return mark_quantized(graph, lambda name: True, None)


def test_layers_and_sums_read_codes(cnn_name, mapped) -> None:
    graph = marked(mapped(cnn_name).graph)
    for node in graph.nodes:
        if node.op in COMPUTES:
            values = [name for name in node.inputs if name in graph.values]
            assert all(graph.by_name[name].op == QDQ for name in values), node.name


def test_nothing_stands_between_a_layer_and_its_relu(mapped) -> None:
    graph = marked(mapped("resnet20").graph)
    relus = [node for node in graph.nodes if node.op == "aten.relu.default"]
    assert relus
    assert all(graph.by_name[node.inputs[0]].op != QDQ for node in relus)


def test_outputs_stay_float(zoo_name, mapped) -> None:
    graph = mapped(zoo_name).graph
    assert marked(graph).outputs == graph.outputs


def test_moved_values_share_the_codes_of_their_source(zoo_name, mapped) -> None:
    graph = mapped(zoo_name).graph
    names = [*graph.inputs, *graph.by_name]
    parameters = {name: (0.5 + position, 0) for position, name in enumerate(names)}
    coding = read_coding(graph)
    found = mark_quantized(graph, lambda name: True, parameters)
    for node in found.nodes:
        if node.op == QDQ:
            value = node.inputs[0]
            source = code_source(graph, value, coding)
            known = graph.by_name[source].facts.known_codes if source in graph.by_name else None
            assert node.args[1:3] == (known or parameters[source])
            moved = value in graph.by_name and graph.by_name[value].facts.moves_data
            moves_codes = moved and found.by_name[graph.by_name[value].name].inputs[0].endswith(
                ".q"
            )
            assert (source != value) == moves_codes


def test_float_segments_are_left_alone(zoo_name, mapped) -> None:
    graph = mapped(zoo_name).graph
    assert mark_quantized(graph, lambda name: False, None) == graph
