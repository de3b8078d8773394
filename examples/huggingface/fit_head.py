"""Makes a text classifier from a trained encoder: a folder that the Hugging Face libraries read.

    python fit_head.py ENCODER_FOLDER ROWS_FOLDER CLASSIFIER_FOLDER

ENCODER_FOLDER holds a BERT with its tokenizer, ROWS_FOLDER train.csv with columns text and label. The
encoder stays as it is; pooler and classifier are fitted to what it says of the first token.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from datasets import load_dataset
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, BertForSequenceClassification

LENGTH = 64
STEPS = 1500


@torch.no_grad()
def first_tokens(model: BertForSequenceClassification, tokenizer, texts: list[str]) -> Tensor:
    """The encoder's last hidden state at the first token of each text, (texts, width)."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = torch.empty(len(texts), model.config.hidden_size)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        taken = tokenizer(
            [texts[i] for i in rows],
            truncation=True,
            max_length=LENGTH,
            padding=True,
            return_tensors="pt",
        )
        found[rows] = model.bert(**taken).last_hidden_state[:, 0]
    return found


def fit(model: BertForSequenceClassification, features: Tensor, classes: Tensor) -> None:
    """Fits pooler and classifier, with half of the pooled values dropped."""
    pooler, head = model.bert.pooler.dense, model.classifier
    with torch.no_grad():
        torch.nn.init.orthogonal_(pooler.weight)
        pooler.bias.zero_()
    optimizer = torch.optim.AdamW(
        [*pooler.parameters(), *head.parameters()], 1e-3, weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(features), (256,))
        pooled = F.dropout(torch.tanh(pooler(features[rows])), 0.5)
        optimizer.zero_grad()
        F.cross_entropy(head(pooled), classes[rows]).backward()
        optimizer.step()
        schedule.step()


def main(encoder: str, rows: str, folder: str) -> None:
    """Reads the encoder and the rows, fits, and writes the classifier with its tokenizer."""
    torch.manual_seed(0)
    train = load_dataset("csv", data_files=str(Path(rows) / "train.csv"), split="train")
    names = sorted(set(train["label"]))
    numbers = {name: number for number, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = BertForSequenceClassification.from_pretrained(
        encoder, num_labels=len(names), id2label=dict(enumerate(names)), label2id=numbers
    ).eval()
    features = first_tokens(model, tokenizer, list(train["text"]))
    fit(model, features, torch.tensor([numbers[label] for label in train["label"]]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
