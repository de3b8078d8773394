"""Models of the Hugging Face libraries: all weights or none, safetensors alone, and no code of theirs."""

import json
import sys

import pytest
import torch

from paredown.search.config.schema_task import HuggingFaceTask
from paredown.search.tasks.pretrained import Classes, PretrainedError, load_pretrained
from paredown.search.tasks.splits import DataError

BERT = "bert", "text-classification"


def load(folder, kind="text-classification", **keys):
    values = {"name": "hf", "kind": kind, "model": str(folder), **keys}
    values["data"] = {"dataset": "nobody/nothing"}  # is not read here
    return load_pretrained(HuggingFaceTask.model_validate(values))


@pytest.mark.parametrize(
    ("family", "kind", "auto"),
    [
        (*BERT, "AutoModelForSequenceClassification"),
        ("distilbert", "token-classification", "AutoModelForTokenClassification"),
        ("gpt2", "causal-lm", "AutoModelForCausalLM"),
    ],
)
def test_the_logits_are_those_of_the_library(saved, family, kind, auto):
    import transformers

    folder = saved(family, kind)
    ids = torch.tensor([[2, 4, 6, 3], [2, 5, 3, 0]])
    mask = (ids != 0).long()
    theirs = getattr(transformers, auto).from_pretrained(folder)(ids, attention_mask=mask).logits
    found = load(folder, kind).module(input_ids=ids, attention_mask=mask)
    assert list(found) == ["logits"]
    torch.testing.assert_close(found["logits"], theirs)


def test_weights_in_several_files_are_read(saved):
    whole = load(saved(*BERT)).module.state_dict()
    folder = saved(*BERT, max_shard_size="10KB")
    (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    for name, tensor in load(folder).module.state_dict().items():
        assert torch.equal(tensor, whole[name])


def test_half_precision_becomes_float32_with_a_notice(saved):
    import transformers

    folder = saved(*BERT)
    half = transformers.BertForSequenceClassification.from_pretrained(folder).bfloat16()
    half.save_pretrained(folder)
    found = load(folder)
    assert {p.dtype for p in found.module.parameters()} == {torch.float32}
    assert "tensors of bfloat16 are taken as float32" in found.notices[0]


def test_the_files_beside_the_weights_are_kept_as_they_are(saved):
    folder = saved(*BERT)
    (folder / "notes.txt").write_text("mine")
    files = load(folder).files
    assert set(files) == {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert files["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()


def test_pickled_weights_are_refused_with_the_remedy(saved):
    folder = saved(*BERT)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        PretrainedError, match=r"as model\.safetensors, got pytorch_model\.bin .*save_p"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        ("config.json", r"a folder with config\.json, got none"),
        ("tokenizer.json", r"must hold the tokenizer as tokenizer\.json"),
    ],
)
def test_a_folder_without_a_file_that_is_needed_is_refused(saved, left_out, says):
    folder = saved(*BERT)
    (folder / left_out).unlink()
    if left_out == "tokenizer.json":
        (folder / "tokenizer_config.json").unlink()
    with pytest.raises(PretrainedError, match=says):
        load(folder)


def test_a_head_that_was_never_trained_is_refused(saved):
    import transformers

    folder = saved(*BERT)
    transformers.BertForSequenceClassification.from_pretrained(folder).bert.save_pretrained(folder)
    with pytest.raises(
        PretrainedError, match=r"got none for classifier\.bias, classifier\.weight; name"
    ):
        load(folder)


def test_code_beside_the_weights_is_not_run(saved, tmp_path):
    folder = saved(*BERT)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(
        PretrainedError, match="must hold a model for text-classification, got Value"
    ):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_revision_is_of_the_hub(saved):
    with pytest.raises(
        PretrainedError, match=r"task\.revision: .* got main for a folder; delete it"
    ):
        load(saved(*BERT), revision="main")


def test_a_missing_extra_is_named_with_its_remedy(saved, monkeypatch):
    folder = saved(*BERT)
    monkeypatch.setitem(sys.modules, "seqeval", None)
    with pytest.raises(PretrainedError, match=r"seqeval, which is not installed; run pip install"):
        load(folder)


def test_classes_go_by_name_where_data_name_them():
    classes = Classes(named="column 'label'", names=["neg", "pos"], theirs=["POS", "NEG"])
    assert [classes.number(each, 0) for each in (0, 1, "pos")] == [1, 0, 1]


def test_classes_that_the_model_does_not_name_go_by_number():
    classes = Classes(named="c", names=["LABEL_0", "LABEL_1"], theirs=["b", "a"])
    assert [classes.number(each, 0) for each in (0, 1)] == [0, 1]


@pytest.mark.parametrize("label", [2, -1, "other", None, 1.0])
def test_a_label_that_is_no_class_of_the_model_is_refused_with_its_row(label):
    classes = Classes(named="task.data.search: column 'label'", names=["neg", "pos"])
    with pytest.raises(
        DataError, match=r"column 'label' must hold .*neg, pos or 0\.\.1, got .* row 7"
    ):
        classes.number(label, 7)


def test_other_names_than_the_models_are_refused():
    with pytest.raises(DataError, match=r"neg, pos, got c; name them alike in id2label"):
        Classes(named="c", names=["neg", "pos"], theirs=["neg", "c"])
