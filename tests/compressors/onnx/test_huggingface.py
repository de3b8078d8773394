"""Transformers of Hugging Face as they are: captured, equal to torch, and the same in ONNX Runtime.

Small networks made from their configs, at a batch, a padding and lengths other than the example's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import session
from paredown.compressors.onnx.lowering import lower, output_names
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import as_inputs, capture
from paredown.spaces.capture.hold import disagreement, module_outputs, run_graph
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.reading import read_model_map
from paredown.spaces.structure.slicing import narrow_graph, slice_tensors

pytestmark = pytest.mark.models
hf = pytest.importorskip("transformers", reason="the library transformers is not installed")

_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
_IMAGE = {**_TEXT, "image_size": 32, "patch_size": 8}
_SHARED = {**_TEXT, "num_key_value_heads": 2}


class Case(NamedTuple):
    """A class of the library, the class and arguments of its config, and the shape of a row."""

    model: str
    config: str
    arguments: Mapping[str, Any]
    row: tuple[int, ...] = (12,)
    inputs: str = "input_ids"


CASES = {
    "bert": Case("BertForSequenceClassification", "BertConfig", _TEXT),
    "distilbert": Case(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100},
    ),
    "roberta": Case(
        "RobertaForSequenceClassification", "RobertaConfig", {**_TEXT, "type_vocab_size": 1}
    ),
    "albert": Case(
        "AlbertForSequenceClassification", "AlbertConfig", {**_TEXT, "embedding_size": 16}
    ),
    "vit": Case("ViTForImageClassification", "ViTConfig", _IMAGE, (3, 32, 32), "pixel_values"),
    "deit": Case("DeiTForImageClassification", "DeiTConfig", _IMAGE, (3, 32, 32), "pixel_values"),
    "swin": Case(
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        (3, 32, 32),
        "pixel_values",
    ),
    "gpt2": Case(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "n_positions": 64},
    ),
    "llama": Case("LlamaForCausalLM", "LlamaConfig", _SHARED),
    "qwen": Case("Qwen2ForCausalLM", "Qwen2Config", _SHARED),
    "t5": Case(
        "T5EncoderModel",
        "T5Config",
        {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 8, "vocab_size": 100},
    ),
    "whisper": Case(
        "models.whisper.modeling_whisper.WhisperEncoder",
        "WhisperConfig",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "num_mel_bins": 20,
            "max_source_positions": 25,
        },
        (20, 50),
        "input_features",
    ),
    "wav2vec2": Case(
        "Wav2Vec2ForSequenceClassification",
        "Wav2Vec2Config",
        {
            **_TEXT,
            "conv_dim": (32,) * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
        (2000,),
        "input_values",
    ),
}
HEADED = [name for name in CASES if name != "albert"]
"""Those whose layers are used once each."""
READS_TEXT = [name for name, case in CASES.items() if case.inputs == "input_ids"]


def _built(case: Case) -> nn.Module:
    torch.manual_seed(0)
    found: Any = hf
    for part in case.model.split("."):
        found = getattr(found, part)
    module: nn.Module = found(getattr(hf, case.config)(**case.arguments))
    return module.eval()


def _batch(case: Case, rows: int, length: int | None = None) -> dict[str, Tensor]:
    """Rows of random values; of text the first is padded."""
    if case.inputs != "input_ids":
        return {case.inputs: torch.randn(rows, *case.row)}
    shape = (rows, length or case.row[0])
    mask = torch.ones(shape, dtype=torch.int64)
    mask[0, -3:] = 0
    return {"input_ids": torch.randint(3, 100, shape), "attention_mask": mask}


def _check(case: Case, timed: bool, sizes: tuple[tuple[int, int | None], ...]) -> None:
    module = _built(case)
    lengths = (2, 64) if timed else None
    captured = capture(module, _batch(case, 2), lengths=lengths)
    stored = {name: StoredTensor.unchanged(t) for name, t in captured.tensors.items()}
    blueprint = draft(read_model_map(captured), Candidate())
    proto = lower(CompressedModel(blueprint=blueprint, stored=stored))
    running = session(proto.SerializeToString(), exact=True)
    for rows, length in sizes:
        batch = _batch(case, rows, length)
        wanted = module_outputs(module, batch)
        assert disagreement(wanted, run_graph(captured, batch)) is None
        if rows == 2:
            inputs = as_inputs(captured.graph, batch)
            feeds = {n: x.numpy() for n, x in zip(captured.graph.inputs, inputs, strict=True)}
            made = running.run(list(output_names(captured.graph)), feeds)
            assert disagreement(wanted, tuple(map(torch.from_numpy, made))) is None


@pytest.mark.parametrize("name", HEADED)
def test_half_the_heads_and_hidden_widths_run_as_they_are_in_torch(name: str) -> None:
    case = CASES[name]
    captured = capture(_built(case), _batch(case, 2))
    model_map = read_model_map(captured)
    heads = [group for group in model_map.groups if group.entries > 1]
    assert len(heads) == {"swin": 4, "t5": 1}.get(name, 2)
    hidden = [g for g in model_map.groups if g not in heads and g.channels in (64, 128)]
    assert len(hidden) == 2 * len(heads) if name == "t5" else len(heads)
    widths = {group.name: group.channels // 2 for group in (*heads, *hidden)}
    sliced = slice_tensors(
        model_map, captured.tensors, {name: torch.arange(n) for name, n in widths.items()}
    )
    stored = {name: StoredTensor.unchanged(t) for name, t in sliced.items()}
    blueprint = draft(model_map, Candidate(widths=tuple(sorted(widths.items()))))
    proto = lower(CompressedModel(blueprint=blueprint, stored=stored))
    running = session(proto.SerializeToString(), exact=True)
    narrow = narrow_graph(model_map, captured.graph, widths)
    inputs = as_inputs(narrow, _batch(case, 2))
    feeds = {n: x.numpy() for n, x in zip(narrow.inputs, inputs, strict=True)}
    made = running.run(list(output_names(narrow)), feeds)
    wanted = run(narrow, sliced, inputs)
    assert disagreement(wanted, tuple(map(torch.from_numpy, made))) is None


@pytest.mark.parametrize("name", CASES)
def test_a_transformer_is_captured_and_exported_as_it_is(name: str) -> None:
    _check(CASES[name], timed=False, sizes=((2, None), (3, None), (1, None)))


@pytest.mark.parametrize("name", READS_TEXT)
def test_a_transformer_of_text_takes_any_length(name: str) -> None:
    _check(CASES[name], timed=True, sizes=((2, None), (3, 7), (2, 5), (2, 40)))
