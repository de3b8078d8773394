"""Sampled inputs of every layer of the zoo give its outputs at the same positions."""

import pytest
import torch

from paredown.compressors.matrix.algebra import to_matrix
from paredown.compressors.statistics.patches import sampled_columns, sampled_outputs
from paredown.spaces.graph.graph import run


@pytest.mark.parametrize("count", [7, 100, 10**6])
def test_the_matrix_times_sampled_columns_is_the_sampled_output(
    zoo_name, count, captured, mapped, calibration
):
    model_map, tensors = mapped(zoo_name), captured(zoo_name).tensors
    seen = []

    def after(node, arguments, output):
        layer = model_map.layer_by_node.get(node.name)
        if layer is not None and layer.kind != "embedding":
            columns = sampled_columns(layer, arguments, count)
            matrix = to_matrix(tensors[layer.weight], layer)
            grouped = matrix.reshape(columns.shape[0], -1, columns.shape[1])
            given = (grouped @ columns).flatten(0, 1)
            if layer.bias is not None:
                given += tensors[layer.bias].unsqueeze(1)
            wanted = sampled_outputs(layer, output, count)
            assert given.shape == wanted.shape
            torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
            samples = len(output)
            assert given.shape[1] <= max(count, samples) or given.shape[1] <= 4 * count
            seen.append(layer.name)
        return output

    with torch.no_grad():
        run(model_map.graph, tensors, calibration(zoo_name), after=after)
    assert seen
