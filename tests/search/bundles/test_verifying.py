"""Bundles verified in processes of their own: what ends one of them ends nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.search.bundles import verifying
from paredown.search.bundles.task import TaskSource
from paredown.search.bundles.verifying import verify_each
from paredown.search.study.bundle_check import BundleCheck

TRUSTING = TaskSource(trusts_cards=True)


def test_a_fresh_process_finds_what_this_one_does(
    bundles: dict[str, Path],
    planted: Callable[[str], Path],
    verify: Callable[..., BundleCheck],
) -> None:
    broken = planted("weights")
    (broken / "model.onnx").write_bytes(b"")
    here = verify(bundles["weights"])

    whole, other = verify_each([bundles["weights"], broken], TaskSource())

    assert whole.ok
    for name in ("test_accuracy", "relative_error", "test_difference_error"):
        assert whole.measured[name] == pytest.approx(here.measured[name])
    assert {text.split(":")[0] for text in other.mismatches} == {"bytes", "content", "loading"}


def test_a_process_that_dies_is_told_of_its_bundle_alone(
    bundles: dict[str, Path],
    planted: Callable[[str], Path],
    edit_card: Callable[..., None],
    own_code: Callable[..., str],
) -> None:
    dies = planted("weights")
    crash = own_code("crash", "os.abort()")
    edit_card(dies, lambda card: card.update(config_yaml=crash))

    first, second = verify_each([dies, bundles["uncompressed"]], TRUSTING)

    assert first.folder == dies
    (died,) = first.mismatches
    assert died.startswith("error: the verifying process ended with exit code -6")
    assert second.ok


def test_what_nobody_foresaw_is_a_mismatch_of_one_bundle(tmp_path: Path) -> None:
    class Gone:
        def verify(self, folder: Path) -> BundleCheck:
            raise OSError("gone")

    (raised,) = verifying._verify(Gone(), tmp_path).mismatches  # type: ignore[arg-type]
    assert raised.startswith("error: OSError at test_verifying.py:")
    assert raised.endswith("gone")


def test_code_that_a_card_names_is_not_run_and_the_rest_is_checked(
    paredown, planted: Callable[[str], Path], edit_card: Callable[..., None], own_code, tmp_path
) -> None:
    folder = planted("weights")
    edit_card(folder, lambda card: card.update(config_yaml=own_code("received")))

    shown, told = paredown("verify", folder), paredown("verify", folder, "--json")

    assert shown.exit_code == told.exit_code == 0, shown.output
    assert not (tmp_path / "code" / "received.ran").exists()
    assert "holds as far as it was checked" in shown.output
    assert "not checked: metric: the card names code to run (received:data" in shown.output
    (found,) = json.loads(told.stdout)
    assert found["ok"]
    (reason,) = found["unchecked"]
    assert reason in " ".join(shown.output.split())
    # What needs no task is checked all the same, equal outputs on random inputs among it.
    measured = {"onnx_bytes", "packed_bytes", "relative_error", "integer_kernels", "latency_ratio"}
    assert measured <= found["measured"].keys()
    assert "test_accuracy" not in found["measured"]


def test_a_bundle_that_hangs_is_given_up(bundles: dict[str, Path]) -> None:
    (found,) = verify_each([bundles["weights"]], TaskSource(), longest_s=0.1)

    assert found.mismatches == ("error: verifying took more than 0 s and was ended",)
