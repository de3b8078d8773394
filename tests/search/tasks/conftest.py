"""Folders of small models of the Hugging Face libraries, with tokenizers made here, and rows for them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paredown.search.config.schema_task import HuggingFaceTask

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["good", "bad", "film", "play", "very", "not", "anna", "in", "paris", "##s"]
LONGEST = 32
_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 20,
    "max_position_embeddings": LONGEST,
}
_FAMILIES = {
    "bert": ("Bert", _TEXT),
    "distilbert": (
        "DistilBert",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 20},
    ),
    "gpt2": (
        "GPT2",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 20, "n_positions": LONGEST},
    ),
    "vit": ("ViT", {**_TEXT, "image_size": 16, "patch_size": 8}),
}
_HEADS = {
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "image-classification": "ForImageClassification",
    "causal-lm": "LMHeadModel",
}
_NAMES = {
    "text-classification": ["neg", "pos"],
    "token-classification": ["O", "B-PER", "B-LOC", "I-LOC"],
    "image-classification": ["dark", "light"],
    "causal-lm": ["LABEL_0", "LABEL_1"],
}


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    named = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **named,
    ).save_pretrained(folder)


@pytest.fixture
def saved(tmp_path) -> Callable[..., Path]:
    """Writes a model of a family with the head of a kind, by the library itself; returns its folder."""
    transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    import torch

    def _save(family: str, kind: str, **how: object) -> Path:
        torch.manual_seed(0)
        prefix, arguments = _FAMILIES[family]
        names = dict(enumerate(_NAMES[kind]))
        config = getattr(transformers, f"{prefix}Config")(
            **arguments, id2label=names, label2id={name: i for i, name in names.items()}
        )
        folder = tmp_path / "model"
        network = getattr(transformers, f"{prefix}{_HEADS[kind]}")(config)
        network.save_pretrained(folder, **how)
        if kind == "image-classification":
            processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16})
            processor.save_pretrained(folder)
        else:
            _save_tokenizer(folder)
        return folder

    return _save


def _write_texts(path: Path) -> None:
    rows = [("good film", "pos"), ("very bad play", "neg"), ("not good", "neg"), ("films", "pos")]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def _write_words(path: Path) -> None:
    rows = [
        {"tokens": ["anna", "plays", "in", "paris"], "label": ["B-PER", "O", "O", "B-LOC"]},
        {"tokens": ["good", "film"], "label": ["O", "O"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_images(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name in _NAMES["image-classification"]:
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.fixture
def section(tmp_path, saved) -> Callable[..., HuggingFaceTask]:
    """The section of a config with a saved model and rows of its kind; `data` goes over its data."""

    def _section(family: str, kind: str, **data: object) -> HuggingFaceTask:
        saved(family, kind)
        if kind == "image-classification":
            for part in ("train", "validation", "test"):
                _write_images(tmp_path / "rows" / part)
            given: dict[str, object] = {"dataset": "./rows"}
        else:
            words = kind == "token-classification"
            name, write = ("rows.json", _write_words) if words else ("rows.csv", _write_texts)
            write(tmp_path / name)
            given = dict.fromkeys(("train", "search", "test"), f"./{name}")
        values = {
            "name": "hf",
            "kind": kind,
            "model": "./model",
            "data": {"max_length": 8, **given, **data},
        }
        return HuggingFaceTask.model_validate(values, context={"folder": tmp_path})

    return _section
