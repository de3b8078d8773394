"""A card made up by hand, for rules that read figures and no files."""

from __future__ import annotations

import pytest

from paredown.search.bundles.card import Card


@pytest.fixture
def made_up_card() -> Card:
    """Of an uncompressed model that was predicted to take between 0.9 s and 1.1 s."""
    return Card.model_validate(
        {
            "key": "model",
            "predicted": {
                "onnx_bytes": 1,
                "packed_bytes": 1,
                "latency_ratio_low": 0.3,
                "latency_ratio_high": 0.7,
            },
            "uncompressed": {
                "bundle": "../base",
                "onnx_sha256": "0" * 64,
                "latency_low_s": 0.9,
                "latency_high_s": 1.1,
            },
            "hardware": {"device": "here", "threads": 1, "is_timed": True, "machine": "here"},
            "integer_kernels": {},
            "files": {},
            "config_yaml": "",
        }
    )
