"""Rows for a model of the Hugging Face libraries: token ids or pixels, with what is right for them.

Rows are padded to one length and stay small in memory; padding has a mask, and targets of -100.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paredown.search.config.schema import HuggingFaceTask
from paredown.search.config.schema_task import QUALITY_OF_KIND, HubKind
from paredown.search.tasks.hub import file_rows, hub_rows
from paredown.search.tasks.metrics import IGNORED, Metric, entity_f1, metric_named
from paredown.search.tasks.pretrained import Classes, Pretrained
from paredown.search.tasks.splits import DataError, Split, Splits

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers.image_processing_utils import BaseImageProcessor
    from transformers.tokenization_utils_base import BatchEncoding, PreTrainedTokenizerBase

LOSS_OF_KIND: Mapping[HubKind, str] = {
    "text-classification": "cross_entropy",
    "token-classification": "sequence_cross_entropy",
    "image-classification": "cross_entropy",
    "causal-lm": "sequence_cross_entropy",
}
"""The loss that a model of each kind is trained with."""
_IMAGES_AT_ONCE = 64
_DECODED = ("do_resize", "do_center_crop", "do_pad", "do_convert_rgb")
"""What an image processor has done before pixels are kept."""


def pretrained_metric(section: HuggingFaceTask, found: Pretrained) -> Metric[Tensor]:
    """How good a model of the section's kind is."""
    if section.kind == "token-classification":
        return entity_f1(found.class_names)
    return metric_named(QUALITY_OF_KIND[section.kind].name)


def pretrained_splits(section: HuggingFaceTask, found: Pretrained) -> Splits:
    """The rows that the section names, as the model takes them.

    Of the training split the calibration rows alone are read here, of the test split nothing but
    the names of its columns.

    Raises:
        DataError: A split, a column or a class is not there.
    """
    train, search, test = (_source(section, found, part) for part in ("train", "search", "test"))
    generator = torch.Generator().manual_seed(section.seed)
    drawn = torch.randperm(len(train.rows), generator=generator)[: section.calibration_rows]
    read = _READERS[section.kind]
    return Splits(
        calibration=read(train.of(drawn.tolist())),
        search=read(search),
        open_train=functools.partial(read, train),
        open_test=functools.partial(read, test),
    )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """The rows of one split as they lie in their files, and the columns to read."""

    rows: Dataset
    named: str
    found: Pretrained
    column: str
    label: str
    pair: str | None
    length: int

    def of(self, index: Sequence[int]) -> _Source:
        """The same of some rows."""
        return _Source(**{**vars(self), "rows": self.rows.select(index)})

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of a kind with texts."""
        assert self.found.tokenizer is not None
        return self.found.tokenizer

    @property
    def classes(self) -> Classes:
        """What the label column may hold."""
        feature = self.rows.features[self.label]
        return Classes(
            named=f"{self.named}: column {self.label!r}",
            names=self.found.class_names,
            theirs=getattr(getattr(feature, "feature", feature), "names", None) or (),
        )

    def texts(self, column: str) -> list[str]:
        """A column of texts.

        Raises:
            DataError: A row holds something else.
        """
        found = list(self.rows[column])
        for row, text in enumerate(found):
            if not isinstance(text, str):
                raise DataError(
                    f"{self.named}: column {column!r} must hold texts, got {text!r:.40} in row {row}; "
                    "drop such rows, or set task.data.columns"
                )
        return found


def _source(section: HuggingFaceTask, found: Pretrained, part: str) -> _Source:
    data, columns = section.data, section.data.columns
    split = getattr(data, part)
    named = f"task.data.{part}: {split}"
    if isinstance(split, str):
        assert data.dataset is not None  # as the config has it
        rows = hub_rows(data.dataset, split, data.subset, data.revision, "task.data.dataset")
    else:
        rows = file_rows(split, f"task.data.{part}")
    column = columns.input or _COLUMNS[section.kind]
    label = columns.label or "label"
    needed = [column, columns.pair, label if section.kind != "causal-lm" else None]
    for each in needed:
        if each is not None and each not in rows.column_names:
            raise DataError(
                f"{named}: must have the column {each!r}, got {', '.join(rows.column_names)}; set "
                "task.data.columns"
            )
    if not len(rows):
        raise DataError(f"{named}: must have rows, got none; name another split")
    length = data.max_length
    if found.tokenizer is not None and length > found.tokenizer.model_max_length:
        raise DataError(
            f"task.data.max_length: must be at most {found.tokenizer.model_max_length}, which is what "
            f"the model takes, got {length}; make it smaller"
        )
    return _Source(
        rows=rows,
        named=named,
        found=found,
        column=column,
        label=label,
        pair=columns.pair,
        length=length,
    )


def _text_rows(source: _Source) -> Split:
    texts = source.texts(source.column)
    pairs = None if source.pair is None else source.texts(source.pair)
    classes = _row_classes(source)
    encoded = source.tokenizer(texts, pairs, **_padded(source))
    return _token_split(source, encoded, classes)


def _word_rows(source: _Source) -> Split:
    words, tags = list(source.rows[source.column]), list(source.rows[source.label])
    for row, (each, of_each) in enumerate(zip(words, tags, strict=True)):
        if (
            not isinstance(each, list)
            or not isinstance(of_each, list)
            or len(each) != len(of_each)
        ):
            raise DataError(
                f"{source.named}: columns {source.column!r} and {source.label!r} must hold lists of "
                f"one length, words and their classes, got {each!r:.40} and {of_each!r:.40} in row "
                f"{row}; set task.data.columns"
            )
    encoded = source.tokenizer(words, is_split_into_words=True, **_padded(source))
    classes = source.classes
    targets = torch.full((len(words), source.length), IGNORED)
    for row, of_row in enumerate(tags):
        known = [classes.number(tag, row) for tag in of_row]
        before = None
        for place, word in enumerate(encoded.word_ids(row)):
            # A word's class is that of its first token, as it was in training.
            if word is not None and word != before:
                targets[row, place] = known[word]
            before = word
    return _token_split(source, encoded, targets)


def _next_token_rows(source: _Source) -> Split:
    texts = source.texts(source.column)
    # A text that is too long gives several rows; one token alone predicts nothing.
    how = {**_padded(source), "padding_side": "right", "return_overflowing_tokens": True}
    encoded = source.tokenizer([text for text in texts if text.strip()], **how)
    ids, mask = (torch.tensor(encoded[name]) for name in ("input_ids", "attention_mask"))
    is_long = mask.sum(1) > 1
    if not is_long.any():
        raise DataError(f"{source.named}: must have texts of two tokens or more; name another")
    following = ids[:, 1:].masked_fill(mask[:, 1:] == 0, IGNORED)
    targets = torch.cat([following, torch.full((len(ids), 1), IGNORED)], 1)
    split = _token_split(source, encoded, targets)
    return split.take(is_long.nonzero()[:, 0])


def _image_rows(source: _Source) -> Split:
    from datasets import Image

    processor = source.found.image_processor
    assert processor is not None
    mode = "L" if getattr(source.found.config, "num_channels", 3) == 1 else "RGB"
    classes, rows = _row_classes(source), source.rows.cast_column(source.column, Image())
    pixels = []
    for start in range(0, len(rows), _IMAGES_AT_ONCE):
        images = [
            image.convert(mode) for image in rows[start : start + _IMAGES_AT_ONCE][source.column]
        ]
        kept = processor(images, do_rescale=False, do_normalize=False, return_tensors="pt")
        pixels.append(kept["pixel_values"])
    return Split(
        inputs=(torch.cat(pixels),),
        targets=classes,
        prepare=_Normalised(processor),
        names=("pixel_values",),
        named=source.named,
    )


_READERS: Mapping[HubKind, Callable[[_Source], Split]] = {
    "text-classification": _text_rows,
    "token-classification": _word_rows,
    "image-classification": _image_rows,
    "causal-lm": _next_token_rows,
}
_COLUMNS: Mapping[HubKind, str] = {
    "text-classification": "text",
    "token-classification": "tokens",
    "image-classification": "image",
    "causal-lm": "text",
}


def _padded(source: _Source) -> dict[str, str | int | bool]:
    return {"truncation": True, "padding": "max_length", "max_length": source.length}


def _row_classes(source: _Source) -> Tensor:
    """Class numbers, (rows,), int64."""
    classes = source.classes
    return torch.tensor(
        [classes.number(x, row) for row, x in enumerate(source.rows[source.label])]
    )


def _token_split(source: _Source, encoded: BatchEncoding, targets: Tensor) -> Split:
    """Rows of token ids and their masks, those that the model takes."""
    taken = inspect.signature(source.found.module.forward).parameters
    names = [n for n in source.tokenizer.model_input_names if n in taken and n in encoded]
    sizes = [torch.int32 if name == "input_ids" else torch.uint8 for name in names]
    return Split(
        inputs=tuple(
            torch.tensor(encoded[n], dtype=size) for n, size in zip(names, sizes, strict=True)
        ),
        targets=targets,
        prepare=_as_int64,
        names=tuple(names),
        named=source.named,
        mask="attention_mask" if "attention_mask" in names else "",
    )


def _as_int64(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.long() for x in inputs)


@dataclass(frozen=True)
class _Normalised:
    """A `prepare`: what the image processor does after cutting and resizing."""

    processor: BaseImageProcessor

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        done = {each: False for each in _DECODED if getattr(self.processor, each, None)}
        normalised = functools.partial(self.processor, return_tensors="pt", **done)
        return (normalised(list(inputs[0]))["pixel_values"],)
