"""Faults planted in a bundle end `paredown verify` with exit code 1; a missed prediction does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import numpy_helper

from paredown.search.bundles.exporting import digest_of
from paredown.spaces.system.sealed import write_sealed

Plant = Callable[[Path, dict[str, Path]], None]


def flip(name: str) -> Plant:
    """A bit of the file's middle is flipped."""

    def plant(folder: Path, bundles: dict[str, Path]) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return plant


def take_another_card(folder: Path, bundles: dict[str, Path]) -> None:
    shutil.copy(bundles["weights"] / "card.json", folder)


def edit_onnx(folder: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    """Changes what runs, and writes the card anew as whoever did it on purpose would."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())
    card = json.loads((folder / "card.json").read_text())
    card["files"]["model.onnx"] = digest_of(path)
    card["predicted"]["onnx_bytes"] = path.stat().st_size
    write_sealed(folder / "card.json", card)


def _tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def let_a_kernel_fall_back(folder: Path, bundles: dict[str, Path]) -> None:
    """Another zero point behind a ReLU computes the same and keeps its convolution from fusing."""

    def edit(model: onnx.ModelProto) -> None:
        relu = next(node for node in model.graph.node if node.op_type == "Relu")
        (quantize,) = [node for node in model.graph.node if relu.output[0] in node.input]
        _tensor(model, quantize.input[2]).raw_data = bytes([128])

    edit_onnx(folder, edit)


def spoil_the_metric(folder: Path, bundles: dict[str, Path]) -> None:
    """The scales of the last layer's weights are turned round: other classes win."""

    def edit(model: onnx.ModelProto) -> None:
        scales = [
            tensor
            for tensor in model.graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT
            and numpy_helper.to_array(tensor).shape == (10,)
        ]
        values = numpy_helper.to_array(scales[-1])
        changed = values * np.geomspace(0.05, 20.0, 10, dtype=np.float32)
        scales[-1].CopyFrom(numpy_helper.from_array(changed, scales[-1].name))

    edit_onnx(folder, edit)


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (flip("model.onnx"), "content"),
        (flip("model.safetensors"), "content"),
        (take_another_card, "content"),
        (let_a_kernel_fall_back, "kernels"),
        (spoil_the_metric, "metric"),
    ],
    ids=["bits of the ONNX file", "bits of the tensors", "card", "kernel", "metric"],
)
def test_a_planted_fault_ends_with_exit_code_1(
    plant: Plant,
    rule: str,
    bundles: dict[str, Path],
    planted: Callable[[str], Path],
    paredown: Callable[..., Result],
) -> None:
    folder = planted("integers")
    plant(folder, bundles)
    done = paredown("verify", folder)
    assert done.exit_code == 1, done.output
    assert f"✗ {rule}:" in done.output
    assert "1 of 1 bundles do not hold" in done.stderr


def test_a_latency_that_was_predicted_wrong_is_told_with_exit_code_0(
    planted: Callable[[str], Path],
    edit_card: Callable[[Path, Callable[[dict[str, Any]], None]], None],
    paredown: Callable[..., Result],
) -> None:
    folder = planted("integers")
    edit_card(
        folder,
        lambda card: card["predicted"].update(latency_ratio_low=0.0, latency_ratio_high=1e-3),
    )
    before = (folder / "card.json").read_bytes()
    done = paredown("verify", folder)
    assert done.exit_code == 0, done.output
    assert "holds" in done.output
    assert "warning: latency:" in done.output
    # A check leaves what it checks as it is.
    assert (folder / "card.json").read_bytes() == before
