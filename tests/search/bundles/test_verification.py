"""One fault in a bundle's files or on its card is planted, and must be found by its rule alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from paredown.search.bundles.card import VerificationError
from paredown.search.bundles.task import TaskSource
from paredown.search.bundles.verification import Verifier
from paredown.search.config.reading import load_config
from paredown.search.study.bundle_check import BundleCheck
from paredown.spaces.system.sealed import write_sealed

Edit = Callable[[dict[str, Any]], None]
Verify = Callable[..., BundleCheck]


def _edit_card(folder: Path, edit: Edit) -> None:
    card = json.loads((folder / "card.json").read_text())
    edit(card)
    write_sealed(folder / "card.json", card)


def _rules(verification: BundleCheck) -> set[str]:
    return {mismatch.split(":")[0] for mismatch in verification.mismatches}


@pytest.mark.parametrize("name", ["uncompressed", "weights", "integers"])
def test_a_bundle_as_exported_holds(bundles: dict[str, Path], verify: Verify, name: str) -> None:
    found = verify(bundles[name])

    assert found.mismatches == ()
    assert found.unchecked == ()
    assert found.measured["onnx_bytes"] == (bundles[name] / "model.onnx").stat().st_size
    assert found.measured["test_accuracy"] > 0.95


def test_a_flipped_byte_is_found_by_its_content(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("weights")
    path = folder / "candidate.json"
    path.write_bytes(path.read_bytes().replace(b"4", b"5", 1))

    assert _rules(verify(folder, rows=64)) == {"content"}


def test_a_byte_more_than_predicted_is_found(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("weights")
    _edit_card(
        folder, lambda c: c["predicted"].update(onnx_bytes=c["predicted"]["onnx_bytes"] + 1)
    )

    assert _rules(verify(folder, rows=64)) == {"bytes"}


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_truncated_file_does_not_load(
    planted: Callable[[str], Path], verify: Verify, name: str
) -> None:
    folder = planted("weights")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-7])

    assert _rules(verify(folder)) == {"bytes", "content", "loading"}


def test_a_missing_file_is_named(planted: Callable[[str], Path], verify: Verify) -> None:
    folder = planted("weights")
    (folder / "graph.json").unlink()

    assert verify(folder).mismatches == ("files: graph.json is missing",)


def test_a_changed_uncompressed_model_is_found(
    planted: Callable[[str], Path], verify: Verify, bundles: dict[str, Path]
) -> None:
    folder = planted("weights")
    baseline = folder.parent / bundles["uncompressed"].name / "model.onnx"
    baseline.write_bytes(baseline.read_bytes()[:-7])

    assert _rules(verify(folder, rows=64)) == {"files"}


def test_a_file_with_other_inputs_does_not_load(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("weights")
    model = onnx.load(folder / "model.onnx")
    old, new = model.graph.input[0].name, "z" * len(model.graph.input[0].name)
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
    model.graph.input[0].name = new
    (folder / "model.onnx").write_bytes(model.SerializeToString())

    assert _rules(verify(folder)) == {"content", "loading"}


def test_an_onnx_file_that_names_another_file_is_not_opened(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("weights")
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    (folder / "model.onnx").write_bytes(model.SerializeToString())

    (reason,) = [m for m in verify(folder).mismatches if m.startswith("loading")]
    assert "must lie in the file itself" in reason


def test_a_latency_outside_its_interval_is_a_warning_with_what_was_measured(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("integers")
    _edit_card(
        folder,
        lambda c: c["predicted"].update(latency_ratio_low=1e-4, latency_ratio_high=1e-3),
    )
    found = verify(folder, rows=64)

    assert found.ok
    (warning,) = found.warnings
    assert warning.startswith(
        f"latency: {found.measured['latency_ratio']:.3f} of the uncompressed"
    )
    assert BundleCheck.from_json(json.dumps(found.to_json())) == found


def test_a_latency_predicted_for_another_machine_is_left_unchecked(
    planted: Callable[[str], Path], verify: Verify
) -> None:
    folder = planted("integers")
    _edit_card(folder, lambda c: c["hardware"].update(machine="an abacus"))
    found = verify(folder, rows=64)

    assert found.ok
    assert "an abacus" in found.unchecked[0]


def test_a_folder_without_a_card_is_refused(tmp_path: Path, verify: Verify) -> None:
    with pytest.raises(VerificationError, match=r"must hold card\.json"):
        verify(tmp_path)


def test_a_damaged_card_is_refused(tmp_path: Path, verify: Verify) -> None:
    (tmp_path / "card.json").write_text('{"key": ')
    with pytest.raises(VerificationError, match=r"must be the card .*export the model again"):
        verify(tmp_path)


@pytest.mark.parametrize("card", ["3", "[]", '{"key": "a"}'])
def test_a_card_without_its_entries_is_refused(card: str, tmp_path: Path, verify: Verify) -> None:
    (tmp_path / "card.json").write_text(card)
    with pytest.raises(
        VerificationError, match=r"(must be complete, .*predicted|must hold a mapping)"
    ):
        verify(tmp_path)


def test_outputs_in_integers_are_held_whatever_the_metric_is(
    bundles: dict[str, Path], own_code: Callable[..., str], tmp_path: Path
) -> None:
    config = tmp_path / "own.yaml"
    text = own_code("segments").replace("segments:data", "segments:data, metric: mean_iou")
    config.write_text(text.replace("metric: accuracy", "metric: mean_iou"))
    source = TaskSource(config=load_config(config))

    found = Verifier(source).verify(bundles["integers"])

    assert found.mismatches == ()
    assert found.unchecked == ()
    assert {"test_mean_iou", "output_error", "latency_ratio"} <= found.measured.keys()
    assert found.kernels["QLinearConv"] > 0


@pytest.mark.parametrize("name", ["uncompressed", "weights", "integers"])
def test_a_metric_near_zero_does_not_refuse_a_bundle(
    bundles: dict[str, Path], own_code: Callable[..., str], tmp_path: Path, name: str
) -> None:
    """The error against the network's own outputs is rounding alone, whose 0.3 % nobody keeps."""
    config = tmp_path / "own.yaml"
    body = "rows = (images, model()(images).detach()); return dict.fromkeys(SPLITS, rows)"
    text = own_code(f"teacher_{name}", body.replace("SPLITS", "('train', 'search', 'test')"))
    text = text.replace(f"teacher_{name}:data", f"teacher_{name}:data, metric: mse")
    config.write_text(text.replace("metric: accuracy", "metric: mse"))

    found = Verifier(TaskSource(config=load_config(config))).verify(bundles[name])

    assert found.mismatches == ()
    if name == "uncompressed":
        assert found.measured["test_mse"] < 1e-9
