"""Faults that only a run shows: their files are sound, but what comes out, or what runs, is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from paredown.compressors.bundle.loading import digest_of
from paredown.search.study.bundle_check import BundleCheck
from paredown.spaces.system.sealed import write_sealed

Verify = Callable[..., BundleCheck]


def _edit_card(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    card = json.loads((folder / "card.json").read_text())
    edit(card)
    write_sealed(folder / "card.json", card)


def _edit_onnx(folder: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    """Changes the ONNX file and its digest: only what the runtime makes of it can show."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())
    digest = digest_of(path)
    _edit_card(folder, lambda card: card["files"].update({"model.onnx": digest}))


def _edit_initialiser(
    folder: Path, fits: Callable[[np.ndarray], bool], edit: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Changes the last float initialiser that `fits`."""

    def change(model: onnx.ModelProto) -> None:
        found = [
            tensor
            for tensor in model.graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT and fits(numpy_helper.to_array(tensor))
        ]
        changed = edit(numpy_helper.to_array(found[-1]).copy())
        name = found[-1].name
        found[-1].CopyFrom(numpy_helper.from_array(changed.astype(np.float32), name))

    _edit_onnx(folder, change)


def _initialiser(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _writer(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if name in node.output)


def _rules(verification: BundleCheck) -> set[str]:
    return {mismatch.split(":")[0] for mismatch in verification.mismatches}


def test_a_changed_weight_is_found_by_parity(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("uncompressed")

    def nudge(weight: np.ndarray) -> np.ndarray:
        weight.flat[0] += 0.02
        return weight

    _edit_initialiser(folder, lambda a: a.ndim == 4, nudge)

    assert _rules(verify(folder)) == {"parity"}


def test_changed_scales_in_integers_are_found_by_agreement_and_metric(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("integers")
    # Beside integers the only float vectors are the weights' scales, one per channel.
    _edit_initialiser(
        folder, lambda a: a.ndim == 1 and a.size > 1, lambda a: a * np.geomspace(0.05, 20, a.size)
    )

    # The linear layer's int32 bias is then no longer in units of its scales either.
    assert _rules(verify(folder)) == {"agreement", "metric", "kernels"}


def test_a_kernel_promised_and_not_given_is_found(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("integers")

    def promise(card: dict[str, Any]) -> None:
        card["integer_kernels"]["QLinearConv"] += 1

    _edit_card(folder, promise)
    found = verify(folder, rows=64)

    assert _rules(found) == {"kernels"}
    assert "QLinearConv" in found.mismatches[0]


def _spoil_bias_scale(model: onnx.ModelProto) -> None:
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    scale = _initialiser(model, _writer(model, gemm.input[2]).input[1])
    scale.raw_data = (np.frombuffer(scale.raw_data, np.float32) * np.float32(1.3)).tobytes()


def _spoil_zero_point(model: onnx.ModelProto) -> None:
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    (quantize,) = [node for node in model.graph.node if relu.output[0] in node.input]
    _initialiser(model, quantize.input[2]).raw_data = bytes([128])


@pytest.mark.parametrize(
    ("spoil", "layer"), [(_spoil_bias_scale, "linear"), (_spoil_zero_point, "conv1")]
)
def test_a_layer_that_fell_back_is_named(
    planted: Callable[[str], Path],
    verify: Verify,
    spoil: Callable[[onnx.ModelProto], None],
    layer: str,
) -> None:
    folder = planted("integers")
    _edit_onnx(folder, spoil)
    found = verify(folder, rows=64)

    assert any(text.startswith(f"kernels: {layer} runs as") for text in found.mismatches)
