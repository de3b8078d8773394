"""A card is believed only where it is whole, complete and leads nowhere but beside its bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paredown.search.bundles.card import VERSION, VerificationError, read_card
from paredown.search.study.bundle_check import BundleCheck
from paredown.spaces.system.sealed import DamagedFileError, read_sealed, write_sealed

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(bundles: dict[str, Path], tmp_path: Path) -> Path:
    (tmp_path / "card.json").write_bytes((bundles["weights"] / "card.json").read_bytes())
    return tmp_path


def test_a_card_as_written_is_read_without_its_digest(folder: Path) -> None:
    written = json.loads((folder / "card.json").read_text())
    assert written.pop("digest")
    read_card(folder).write(folder)
    assert read_sealed(folder / "card.json") == written


def test_a_card_of_an_earlier_version_has_no_digest(folder: Path) -> None:
    card = read_sealed(folder / "card.json")
    del card["version"]
    (folder / "card.json").write_text(json.dumps(card))
    assert read_card(folder).files == card["files"]
    read_card(folder).write(folder)
    assert read_sealed(folder / "card.json") == card


def test_a_card_of_a_later_version_is_refused(folder: Path) -> None:
    card = read_sealed(folder / "card.json")
    write_sealed(folder / "card.json", card | {"version": VERSION + 1, "key": 3})
    with pytest.raises(VerificationError, match=r"version 1 at most, got 2; .*install"):
        read_card(folder)


def test_what_was_measured_is_added_and_nothing_else_changes(folder: Path) -> None:
    before = read_sealed(folder / "card.json")
    check = BundleCheck(
        key=before["key"],
        folder=folder,
        predicted={},
        measured={"test_accuracy": 0.5},
        warnings=("latency: slow",),
        kernels={"QGemm": 1},
    )
    read_card(folder).with_measured(check).write(folder)
    after = read_sealed(folder / "card.json")
    assert after.pop("measured") == {
        "verdict": "verified",
        "metrics": {"test_accuracy": 0.5},
        "kernels": {"QGemm": 1},
        "warnings": ["latency: slow"],
        "mismatches": [],
        "unchecked": [],
    }
    assert after == before


def test_what_another_program_wrote_beside_it_is_kept(folder: Path) -> None:
    card = read_sealed(folder / "card.json") | {"note": {"by": "hand"}}
    write_sealed(folder / "card.json", card)
    read_card(folder).write(folder)
    assert read_sealed(folder / "card.json") == card


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda c: c["hardware"].update(threads=10**9), r"hardware\.threads"),
        (lambda c: c["hardware"].update(threads="1"), r"hardware\.threads"),
        (
            lambda c: c["uncompressed"].update(bundle="../../../../home/someone"),
            "uncompressed.bundle",
        ),
        (lambda c: c["uncompressed"].update(bundle="/tmp/elsewhere"), "uncompressed.bundle"),
        (lambda c: c["uncompressed"].update(onnx_sha256=3), "onnx_sha256"),
        (lambda c: c.update(key="../key"), "key"),
        (lambda c: c["predicted"].update(accuracy="high"), r"predicted\.accuracy"),
        (lambda c: c["predicted"].pop("latency_ratio_low"), r"predicted\.latency_ratio_low"),
        (lambda c: c.update(integer_kernels=[]), "integer_kernels"),
        (lambda c: c["files"].update({"model.onnx": 1}), r"files\.model\.onnx"),
        (lambda c: c.update(config_yaml={"a": 1}), "config_yaml"),
    ],
)
def test_what_cannot_be_on_a_card_is_named(folder: Path, edit: Edit, where: str) -> None:
    card = read_sealed(folder / "card.json")
    edit(card)
    write_sealed(folder / "card.json", card)
    with pytest.raises(VerificationError, match=rf"must be complete, .*{where}"):
        read_card(folder)


@pytest.mark.parametrize(
    "text",
    ['{"key": NaN}', '{"key": ' + "9" * 6000 + "}", '{"a": ' * 5000, "[]", "", '{"a": 1, "a": 2}'],
)
def test_what_is_no_card_is_refused(folder: Path, text: str) -> None:
    (folder / "card.json").write_text(text)
    with pytest.raises(VerificationError, match="export the model again"):
        read_card(folder)


def test_nan_on_a_card_is_refused(folder: Path) -> None:
    card = read_sealed(folder / "card.json")
    card["predicted"]["accuracy"] = float("nan")
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(VerificationError, match="finite"):
        read_card(folder)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_sealed(folder / "card.json", card)


def test_no_flipped_bit_of_a_card_is_believed(folder: Path) -> None:
    path = folder / "card.json"
    whole, card = path.read_bytes(), read_card(folder)
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert read_card(folder) == card
        except VerificationError:
            with pytest.raises(DamagedFileError):
                read_sealed(path)
