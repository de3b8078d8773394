"""The rule on lengths: a file with a free time axis is right at both ends of its range."""

from __future__ import annotations

import torch

from paredown.compressors.onnx.kernel_checks import session
from paredown.compressors.storage.compressed import CompressedModel
from paredown.search.bundles.output_rules import RELATIVE_ERROR, has_codes, largest_difference
from paredown.search.bundles.rules import Findings
from paredown.search.evaluating.runtime_outputs import both_ends, run_onnx
from paredown.search.tasks.splits import Split
from paredown.spaces.graph.capturing import as_inputs

_ROWS = 4


def check_lengths(model: CompressedModel, split: Split, found: Findings) -> None:
    """Rule `lengths`: at the shortest and the longest length both runtimes agree, as in `parity`.

    A model with 8-bit activations, whose codes tip, must run there.
    """
    graph = model.blueprint.graph
    rows = as_inputs(graph, split.rows(0, min(_ROWS, len(split)))[0])
    for inputs in both_ends(graph, rows):
        values = as_inputs(graph, inputs)
        outputs = run_onnx(session(found.onnx_path, exact=True), graph, values)
        with torch.no_grad():
            simulated = model(values)
        size = max(float(value.abs().max()) for value in simulated)
        relative = largest_difference(outputs, simulated) / (size or 1.0)
        found.expect(
            has_codes(model) or relative <= RELATIVE_ERROR,
            f"lengths: outputs at length {values[0].shape[1]} are off by {relative:.2e} of the largest, "
            f"at most {RELATIVE_ERROR:.0e}",
        )
