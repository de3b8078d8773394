"""A search with 1-bit weights in its space, to the verified bundles that hold them."""

import math
import shutil

import numpy as np
import pytest
import torch

from paredown.compressors.bundle.loading import TENSORS_FILE, load_model
from paredown.compressors.bundle.writing import ONNX_FILE
from paredown.compressors.kernels.kernel_checks import session
from paredown.search.running import course
from paredown.search.running.whole_search import run

CONFIG = """\
name: onebit
task: {name: digits}
space:
  rules:
    - {layers: "*", weight_bits: [1, 4], sparsity: [0.0, 0.5], method: [descent]}
    - {layers: [conv1, linear], weight_bits: [8], sparsity: [0.0]}
goals: [{metric: accuracy, at_least: 0.5}, {metric: packed_bytes}]
hardware: {latency: roofline}
search: {engine: local, evaluations: 7, batch: 1, rung_images: 100000}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("onebit")
    path = folder / "onebit.yaml"
    path.write_text(CONFIG)
    (folder / "onebit").mkdir()
    shutil.copy(empty_store, folder / "onebit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "write_pages", lambda *_: None)
        patch.setattr(course, "log_pages", lambda *_: None)
        return run(path, overrides=[f"output.folder={folder}"])


def with_one_bit(found):
    """Models of the front that have 1-bit layers, with their folders."""
    return [
        (member, found.folder / "bundles" / member.key)
        for member in found.front.members
        if any(choice.weight_bits == 1 for _, choice in member.candidate.layers)
    ]


def test_one_bit_reaches_the_front_without_zeros_and_is_verified(found):
    chosen = with_one_bit(found)
    assert chosen
    for member, _ in chosen:
        assert all(not choice.lacks_zero for _, choice in member.candidate.layers)
    assert [check.mismatches for check in found.bundles] == [()] * len(found.front.members)


def test_a_bundle_holds_one_bit_a_weight_and_runs_as_it_is_read(found):
    member, folder = with_one_bit(found)[-1]
    model = load_model(folder)
    single = {n: t for n, t in model.stored.items() if t.storage.bits == 1}
    assert single
    for tensor in single.values():
        assert torch.equal(tensor.values.abs(), torch.ones_like(tensor.values))
        assert tensor.storage.payload_bytes == math.ceil(tensor.values.numel() / 8)
        assert tensor.storage.onnx_type == "int2"
    assert (folder / TENSORS_FILE).stat().st_size == member.metrics["packed_bytes"]
    graph = model.blueprint.graph
    (name,) = graph.inputs
    rows = torch.rand(graph.input_shapes[0])
    (given,) = session((folder / ONNX_FILE).read_bytes(), exact=True).run(
        None, {name: rows.numpy()}
    )
    with torch.no_grad():
        np.testing.assert_allclose(given, model([rows])[0].numpy(), rtol=1e-4, atol=1e-4)
