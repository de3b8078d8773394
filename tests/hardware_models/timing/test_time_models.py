"""The script that travels: it must run where paredown is not."""

from __future__ import annotations

import ast
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from paredown.hardware_models.timing import time_models


def product(width: int) -> bytes:
    weight = np.eye(width, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, width])],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@pytest.fixture
def folder(tmp_path):
    names = ("small.onnx", "large.onnx")
    for name, width in zip(names, (16, 512), strict=True):
        (tmp_path / name).write_bytes(product(width))
    manifest = {"threads": 1, "networks": [{"file": name} for name in names]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    source = time_models.__file__
    (tmp_path / "time_models.py").write_text(Path(source).read_text(encoding="utf-8"))
    return tmp_path


def test_the_script_needs_only_numpy_and_onnxruntime():
    tree = ast.parse(Path(time_models.__file__).read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    foreign = {n.split(".")[0] for n in names} - set(sys.stdlib_module_names)
    assert foreign == {"numpy", "onnxruntime"}


def test_the_script_times_a_folder_from_anywhere(folder, tmp_path_factory):
    command = [sys.executable, "-I", str(folder / "time_models.py"), "--blocks", "5"]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(command, check=True, cwd=elsewhere, capture_output=True)
    with (folder / "timings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == time_models.COLUMNS
    assert [(r["file"], r["instance"]) for r in rows] == [
        ("small.onnx", "0"), ("small.onnx", "1"), ("large.onnx", "0"), ("large.onnx", "1"),
    ]  # fmt: skip
    seconds = [float(r["seconds"]) for r in rows]
    assert max(seconds[:2]) < min(seconds[2:])
    assert "onnxruntime" in rows[0]["machine"]
