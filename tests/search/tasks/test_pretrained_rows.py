"""Rows for models of the Hugging Face libraries: as the library's own pieces make them."""

import math

import pytest
import torch

from paredown.search.tasks.metrics import IGNORED
from paredown.search.tasks.pretrained import load_pretrained
from paredown.search.tasks.pretrained_rows import pretrained_metric, pretrained_splits
from paredown.search.tasks.splits import DataError

CLS, SEP, GOOD, BAD, FILM = 2, 3, 4, 5, 6


def splits_of(section):
    return pretrained_splits(section, load_pretrained(section))


def test_texts_are_padded_ids_with_their_mask(section):
    split = splits_of(section("bert", "text-classification", max_length=6)).search
    assert split.names == ("input_ids", "token_type_ids", "attention_mask")
    assert [x.dtype for x in split.inputs] == [torch.int32, torch.uint8, torch.uint8]
    inputs, targets = split.rows(0, 4)
    assert inputs["input_ids"][0].tolist() == [CLS, GOOD, FILM, SEP, 0, 0]
    assert inputs["attention_mask"].sum(1).tolist() == [4, 5, 4, 4]
    real = split.real_positions(inputs)
    assert real is not None
    assert torch.equal(real, inputs["attention_mask"] == 1)
    assert {x.dtype for x in inputs.values()} == {torch.int64}
    assert targets.tolist() == [1, 0, 0, 1]


def test_padding_changes_no_logits(section):
    asked = section("bert", "text-classification", max_length=16)
    found = load_pretrained(asked)
    inputs, _ = pretrained_splits(asked, found).search.rows(0, 4)
    padded = found.module(**inputs)["logits"]
    for row in range(4):
        length = int(inputs["attention_mask"][row].sum())
        alone = {name: x[row : row + 1, :length] for name, x in inputs.items()}
        torch.testing.assert_close(found.module(**alone)["logits"][0], padded[row])


def test_two_columns_are_a_pair(section):
    asked = section(
        "bert", "text-classification", max_length=8, columns={"input": "text", "pair": "label"}
    )
    inputs, _ = splits_of(asked).search.rows(0, 1)
    assert inputs["token_type_ids"][0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]


def test_a_word_has_its_class_at_its_first_token(section):
    asked = section("bert", "token-classification", max_length=9)
    split = splits_of(asked).search
    # [CLS] anna play ##s in paris [SEP] and padding.
    none = IGNORED
    assert split.targets[0].tolist() == [none, 1, 0, none, 0, 2, none, none, none]
    assert split.targets[1].tolist() == [none, 0, 0, *[none] * 6]


def test_entities_are_scored_as_seqeval_does(section):
    asked = section("bert", "token-classification", max_length=9)
    found = load_pretrained(asked)
    metric, split = pretrained_metric(asked, found), pretrained_splits(asked, found).search
    _, targets = split.rows(0, 2)
    logits = torch.nn.functional.one_hot(targets.clamp(min=0), 4).float()
    tally = metric.tally()
    tally.add((logits,), targets)
    assert tally.value() == 1
    logits[0, 5] = torch.tensor([1.0, 0, 0, 0])  # paris is missed: precision 1, recall 1/2
    tally = metric.tally()
    tally.add((logits,), targets)
    assert tally.value() == pytest.approx(2 / 3)


def test_next_tokens_are_scored_as_the_library_scores_them(section):
    asked = section("gpt2", "causal-lm", max_length=8)
    found = load_pretrained(asked)
    metric, split = pretrained_metric(asked, found), pretrained_splits(asked, found).search
    inputs, targets = split.rows(0, 1)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    logits = found.module(**inputs)["logits"].detach()
    tally = metric.tally()
    tally.add((logits,), targets)
    # The library shifts by itself, and ignores labels of -100.
    found.module._forward_hooks.clear()
    loss = found.module(**inputs, labels=ids.masked_fill(mask == 0, IGNORED)).loss
    assert tally.value() == pytest.approx(math.exp(loss.item()), rel=1e-5)


def test_a_text_that_is_too_long_gives_several_rows(section):
    split = splits_of(section("gpt2", "causal-lm", max_length=4)).search
    # "very bad play" is [CLS] very bad [SEP] and [CLS] play [SEP]; all others fit.
    assert len(split) == 5
    assert split.targets[1].tolist() == [8, BAD, SEP, IGNORED]
    assert split.targets[2].tolist() == [7, SEP, IGNORED, IGNORED]


def test_images_are_bytes_until_they_are_prepared_as_the_processor_does(section):
    asked = section("vit", "image-classification")
    found = load_pretrained(asked)
    split = pretrained_splits(asked, found).search
    assert split.inputs[0].dtype == torch.uint8
    inputs, targets = split.rows(0, 6)
    assert targets.tolist() == [0, 0, 0, 1, 1, 1]
    from PIL import Image

    path = asked.data.dataset / "validation" / "light" / "2.png"
    theirs = found.image_processor([Image.open(path)], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(inputs["pixel_values"][5:], theirs)


def test_calibration_rows_are_some_of_training_in_an_order_of_the_seed(section):
    asked = section("bert", "text-classification", max_length=6)
    few = asked.model_copy(update={"calibration_rows": 2})
    found = load_pretrained(asked)
    assert len(pretrained_splits(few, found).calibration) == 2
    first, again = (pretrained_splits(asked, found).calibration for _ in range(2))
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert sorted(first.inputs[0].tolist()) == sorted(
        pretrained_splits(asked, found).open_train().inputs[0].tolist()
    )


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            {"columns": {"input": "words"}},
            r"task\.data\.train: .*column 'words', got text, label; set",
        ),
        (
            {"columns": {"label": "text"}},
            r"column 'text' must hold classes of the model, neg, pos",
        ),
        (
            {"max_length": 33},
            r"task\.data\.max_length: must be at most 32, .* got 33; make it smaller",
        ),
    ],
)
def test_a_mistake_in_the_data_is_named(section, data, says):
    asked = section("bert", "text-classification", **data)
    with pytest.raises(DataError, match=says):
        splits_of(asked)


def test_a_row_without_a_text_is_named(section, tmp_path):
    asked = section("bert", "text-classification")
    (tmp_path / "rows.csv").write_text("text,label\ngood,pos\n,neg\n")
    with pytest.raises(
        DataError, match=r"column 'text' must hold texts, got None in row [01]; drop"
    ):
        splits_of(asked)
