"""One fault per rule is planted in an exported bundle, and must be found by that rule alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from paredown.hardware_models.latency import Estimate
from paredown.search.bundle_rules import Findings, check_metric
from paredown.search.config import load_config
from paredown.search.evaluation import Evaluation
from paredown.search.exporting import digest_of, export, latency_ratio
from paredown.search.verification import (
    Verification,
    VerificationError,
    check_of,
    verify_bundle,
    verify_many,
)
from paredown.search.workbench import Workbench, prepare
from paredown.spaces.candidate import Candidate, LayerChoice, SegmentChoice

CONFIG = """
task: {name: digits}
hardware: {latency: roofline}
goals: [{metric: accuracy}, {metric: latency_s}, {metric: onnx_bytes}]
search: {engine: local}
"""
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("config") / "digits.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return prepare(load_config(path))


@pytest.fixture(scope="module")
def bundles(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of the uncompressed model, one of 4-bit weights and one in integers."""
    folder = tmp_path_factory.mktemp("bundles")
    base = workbench.evaluate_uncompressed(rung=1)
    model_map = workbench.space.model_map(base.candidate)
    names = [layer.name for layer in model_map.layers]
    segments = sorted(set(model_map.segment_of_node.values()))
    four = Candidate.of(layers={n: LayerChoice(weight_bits=4) for n in names})
    eight = Candidate.of(
        layers={n: LayerChoice(weight_bits=8) for n in names},
        segments={n: SegmentChoice(activation_bits=8) for n in segments},
    )
    made = {
        name: export(workbench, _evaluated(workbench, candidate), folder, base)
        for name, candidate in {"weights": four, "integers": eight}.items()
    }
    return made | {"uncompressed": folder / base.key}


@pytest.fixture
def planted(bundles: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a bundle, the uncompressed model beside it, to plant a fault in."""

    def copy(name: str) -> Path:
        for folder in (bundles[name], bundles["uncompressed"]):
            shutil.copytree(folder, tmp_path / folder.name, dirs_exist_ok=True)
        return tmp_path / bundles[name].name

    return copy


def _evaluated(workbench: Workbench, candidate: Candidate) -> Evaluation:
    scored = workbench.score(workbench.assemble(candidate), workbench.task.splits.search)
    return Evaluation(
        number=1,
        key=candidate.key,
        candidate=candidate,
        metrics={"accuracy": scored.metric, "loss": scored.loss}
        | workbench.price(candidate).as_metrics(),
    )


def _edit_card(folder: Path, edit: Edit) -> None:
    card = json.loads((folder / "card.json").read_text())
    edit(card)
    (folder / "card.json").write_text(json.dumps(card))


def _edit_initialiser(
    folder: Path, fits: Callable[[np.ndarray], bool], edit: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Changes the last float initialiser that `fits`, and its digest, so that only a run shows."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    found = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and fits(numpy_helper.to_array(tensor))
    ]
    changed = edit(numpy_helper.to_array(found[-1]).copy())
    name = found[-1].name
    found[-1].CopyFrom(numpy_helper.from_array(changed.astype(np.float32), name))
    path.write_bytes(model.SerializeToString())
    digest = digest_of(path)
    _edit_card(folder, lambda card: card["files"].update({"model.onnx": digest}))


def _rules(verification: Verification) -> set[str]:
    return {mismatch.split(":")[0] for mismatch in verification.mismatches}


@pytest.mark.parametrize("name", ["uncompressed", "weights", "integers"])
def test_a_bundle_as_exported_holds(
    bundles: dict[str, Path], workbench: Workbench, name: str
) -> None:
    found = verify_bundle(bundles[name], workbench.task)

    assert found.mismatches == ()
    assert found.unchecked == ()
    assert found.measured["onnx_bytes"] == (bundles[name] / "model.onnx").stat().st_size
    assert found.measured["test_accuracy"] > 0.95


def test_a_flipped_byte_is_found_by_its_content(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("weights")
    path = folder / "candidate.json"
    path.write_bytes(path.read_bytes().replace(b"4", b"5", 1))

    assert _rules(verify_bundle(folder, workbench.task, rows=64)) == {"content"}


def test_a_byte_more_than_predicted_is_found(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("weights")
    _edit_card(
        folder, lambda c: c["predicted"].update(onnx_bytes=c["predicted"]["onnx_bytes"] + 1)
    )

    assert _rules(verify_bundle(folder, workbench.task, rows=64)) == {"bytes"}


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_truncated_file_does_not_load(
    planted: Callable[[str], Path], workbench: Workbench, name: str
) -> None:
    folder = planted("weights")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-7])

    assert _rules(verify_bundle(folder, workbench.task)) == {"bytes", "content", "loading"}


def test_a_missing_file_is_named(planted: Callable[[str], Path], workbench: Workbench) -> None:
    folder = planted("weights")
    (folder / "graph.json").unlink()

    assert verify_bundle(folder, workbench.task).mismatches == ("files: graph.json is missing",)


def test_a_changed_uncompressed_model_is_found(
    planted: Callable[[str], Path], workbench: Workbench, bundles: dict[str, Path]
) -> None:
    folder = planted("weights")
    baseline = folder.parent / bundles["uncompressed"].name / "model.onnx"
    baseline.write_bytes(baseline.read_bytes()[:-7])

    assert _rules(verify_bundle(folder, workbench.task, rows=64)) == {"files"}


def test_a_file_with_other_inputs_does_not_load(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("weights")
    model = onnx.load(folder / "model.onnx")
    old, new = model.graph.input[0].name, "z" * len(model.graph.input[0].name)
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
    model.graph.input[0].name = new
    (folder / "model.onnx").write_bytes(model.SerializeToString())

    assert _rules(verify_bundle(folder, workbench.task)) == {"content", "loading"}


def test_a_changed_weight_is_found_by_parity(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("uncompressed")

    def nudge(weight: np.ndarray) -> np.ndarray:
        weight.flat[0] += 0.02
        return weight

    _edit_initialiser(folder, lambda a: a.ndim == 4, nudge)

    assert _rules(verify_bundle(folder, workbench.task)) == {"parity"}


def test_changed_scales_in_integers_are_found_by_agreement_and_metric(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("integers")
    # Beside integers the only float vectors are the weights' scales, one per channel.
    _edit_initialiser(
        folder, lambda a: a.ndim == 1 and a.size > 1, lambda a: a * np.geomspace(0.05, 20, a.size)
    )

    # The linear layer's int32 bias is then no longer in units of its scales either.
    assert _rules(verify_bundle(folder, workbench.task)) == {"agreement", "metric", "kernels"}


@pytest.mark.parametrize(
    ("name", "simulated", "value", "is_found"),
    [
        ("accuracy", 0.9, 0.9029, False),
        ("accuracy", 0.9, 0.9031, True),
        ("mse", 20.0, 20.05, False),
        ("mse", 20.0, 20.07, True),
        ("perplexity", 20.0, float("nan"), True),
    ],
)
def test_a_metric_may_be_off_by_a_third_of_a_point(
    name: str, simulated: float, value: float, is_found: bool
) -> None:
    found = Findings(folder=Path(), card={}, predicted={})

    check_metric(name, value, simulated, found)

    assert [mismatch.split(":")[0] for mismatch in found.mismatches] == ["metric"] * is_found


def test_a_kernel_promised_and_not_given_is_found(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("integers")

    def promise(card: dict[str, Any]) -> None:
        card["integer_kernels"]["QLinearConv"] += 1

    _edit_card(folder, promise)
    found = verify_bundle(folder, workbench.task, rows=64)

    assert _rules(found) == {"kernels"}
    assert "QLinearConv" in found.mismatches[0]


def _edit_onnx(folder: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    """Changes the ONNX file and its digest: only what the runtime makes of it can show."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())
    digest = digest_of(path)
    _edit_card(folder, lambda card: card["files"].update({"model.onnx": digest}))


def _initialiser(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _writer(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if name in node.output)


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
    workbench: Workbench,
    spoil: Callable[[onnx.ModelProto], None],
    layer: str,
) -> None:
    folder = planted("integers")
    _edit_onnx(folder, spoil)
    found = verify_bundle(folder, workbench.task, rows=64)

    assert any(text.startswith(f"kernels: {layer} runs as") for text in found.mismatches)


def test_a_latency_outside_its_interval_is_found(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("integers")
    _edit_card(
        folder,
        lambda c: c["predicted"].update(latency_ratio_low=1e-4, latency_ratio_high=1e-3),
    )
    found = verify_bundle(folder, workbench.task, rows=64)

    assert _rules(found) == {"latency"}
    assert not found.ok
    assert check_of(found).mismatches == found.mismatches


def test_a_latency_predicted_for_another_machine_is_left_unchecked(
    planted: Callable[[str], Path], workbench: Workbench
) -> None:
    folder = planted("integers")
    _edit_card(folder, lambda c: c["hardware"].update(machine="an abacus"))
    found = verify_bundle(folder, workbench.task, rows=64)

    assert found.ok
    assert "an abacus" in found.unchecked[0]


def test_a_fresh_process_finds_the_same(
    bundles: dict[str, Path], planted: Callable[[str], Path], workbench: Workbench
) -> None:
    broken = planted("weights")
    (broken / "model.onnx").write_bytes(b"")
    here = verify_bundle(bundles["weights"], workbench.task)

    whole, other = verify_many([bundles["weights"], broken])

    assert whole.ok
    for name in ("test_accuracy", "relative_error", "test_difference_error"):
        assert whole.measured[name] == pytest.approx(here.measured[name])
    assert _rules(other) == {"bytes", "content", "loading"}


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"must hold card\.json"):
        verify_bundle(tmp_path)


def test_the_machines_unknown_speed_cancels_in_a_ratio() -> None:
    def estimate(value_s: float, error: float, scale: float) -> Estimate:
        return Estimate(
            value_s=value_s,
            low_s=value_s / (1 + error) / scale,
            high_s=value_s * (1 + error) * scale,
            source="made up",
            held_out_mape=None,
        )

    ratio, low, high = latency_ratio(estimate(1.0, 0.2, 3.0), estimate(2.0, 0.0, 3.0), 3.0)

    assert ratio == pytest.approx(0.5)
    assert (low, high) == (pytest.approx(0.5 / 1.2), pytest.approx(0.5 * 1.2))
