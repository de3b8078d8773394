"""Heads and MLPs narrowed by a search: the file holds the smaller matrices, and verification holds."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from paredown.compressors.bundle.loading import load_model
from paredown.search.running import course, whole_search
from paredown.search.running.watching import RunResult
from paredown.search.study.picking import pick

CONFIG = """\
name: narrow
task:
  name: custom
  code_folder: {folder}
  model: small_transformers:make
  kwargs: {{like_llama: {like_llama}}}
  data: small_transformers:splits
  data_kwargs: {{like_llama: {like_llama}}}
space:
  rules:
    - {{layers: "*", weight_bits: [4], method: [gptq], tie: true}}
    - {{segments: attention, activation_bits: [8, 32], ranges: [dynamic]}}
    - {{groups: "*", width: [1.0, 0.5]}}
goals: [{{metric: accuracy}}, {{metric: onnx_bytes}}]
hardware:
  latency: roofline
  axes: {{batch: {{price_at: 1}}, time: {{from: 4, to: 20, price_at: 9}}}}
search: {{engine: local, sampler: random, evaluations: 40, rung_images: 100000}}
"""
WHOLE = {
    "attention.q": (32, 32),
    "attention.k": (32, 32),
    "attention.v": (32, 32),
    "attention.o": (32, 32),
    "mlp.up": (64, 32),
    "mlp.down": (32, 64),
}
"""Weights of the plain network, (out, in)."""
OF_LLAMA = {"attention.k": (16, 32), "attention.v": (16, 32), "mlp.gate": (64, 32)}
"""Weights of the other one that differ: keys and values of two heads, and a gate."""


def halved(shapes: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Half the outputs of what makes heads and hidden units, half the inputs of what reads them."""
    readers = ("attention.o", "mlp.down")
    return {n: (o, i // 2) if n in readers else (o // 2, i) for n, (o, i) in shapes.items()}


@pytest.fixture
def search(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[bool], RunResult]:
    """Searches one of the two networks, writes and verifies its front; without pages."""
    monkeypatch.setattr(course, "write_pages", lambda *_: None)
    monkeypatch.setattr(course, "log_pages", lambda *_: None)
    (tmp_path / "narrow").mkdir()
    shutil.copy(empty_store, tmp_path / "narrow")

    def _carry_out(like_llama: bool) -> RunResult:
        path = tmp_path / "narrow.yaml"
        known = {"folder": Path(__file__).parent, "like_llama": str(like_llama).lower()}
        path.write_text(CONFIG.format(**known))
        return whole_search.run(path, overrides=[f"output.folder={tmp_path}"])

    return _carry_out


@pytest.mark.parametrize("like_llama", [False, True], ids=["plain", "llama"])
def test_the_smallest_model_has_half_the_heads_and_half_the_mlp_and_holds(
    like_llama: bool, search: Callable[[bool], RunResult]
) -> None:
    result = search(like_llama)
    picked = pick(result.evaluations, "min onnx_bytes", result.front.goals)
    assert dict(picked.candidate.widths) == {"attention.q": 1 if like_llama else 2, "mlp.up": 32}
    assert result.bundles
    assert [check.mismatches for check in result.bundles if not check.ok] == []
    # Activations of the attention alone are a choice: 8 bits there, floats in the rest.
    own = [e for e in result.evaluations if not e.label]
    ways = {tuple((n, c.activation_bits) for n, c in e.candidate.segments) for e in own}
    assert ways == {(), (("attention", 8),)}
    (folder,) = (check.folder for check in result.bundles if check.key == picked.key)

    wanted = halved({**WHOLE, **OF_LLAMA} if like_llama else WHOLE)
    stored = load_model(folder).stored
    assert {name: tuple(stored[f"{name}.weight"].values.shape) for name in wanted} == wanted
    # The file holds some of them turned.
    initialisers = onnx.load(folder / "model.onnx").graph.initializer
    codes = [x for x in initialisers if x.data_type == onnx.TensorProto.INT4]
    held = Counter(tuple(sorted(x.dims)) for x in codes)
    others = {(32, 50): 1, (6, 32): 1}  # words and head
    assert held == Counter(tuple(sorted(shape)) for shape in wanted.values()) + Counter(others)
