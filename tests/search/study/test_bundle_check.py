"""One word for what verifying a bundle found."""

from pathlib import Path

import pytest

from paredown.search.study.bundle_check import BundleCheck


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({}, "verified"),
        # A latency outside its interval is no fault of the bundle: one in twenty lies there.
        ({"warnings": ("latency: 2 ms",)}, "verified"),
        ({"unchecked": ("energy",)}, "partly checked"),
        ({"mismatches": ("content: model.onnx",)}, "mismatch"),
        ({"mismatches": ("content: model.onnx",), "unchecked": ("energy",)}, "mismatch"),
    ],
)
def test_the_worst_that_was_found_is_the_verdict(found, verdict):
    check = BundleCheck(key="a", folder=Path("bundles/a"), predicted={}, measured={}, **found)
    assert check.verdict == verdict
