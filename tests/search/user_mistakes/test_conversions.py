"""What is converted with a notice scores as what it is converted to."""

import re
import sys

import pytest
from safetensors.torch import save_file

from paredown.search.config.reading import load_config
from paredown.search.evaluating.rehearsal import rehearse
from paredown.search.tasks.task import load_task

CONVERTED = {
    "float64 model": ("def model():\n    torch.manual_seed(0)\n    return Net().double()", "float64"),
    "half model": ("def model():\n    torch.manual_seed(0)\n    return Net().half()", "float16"),
    "bfloat16 model": ("def model():\n    torch.manual_seed(0)\n    return Net().bfloat16()", "bfloat16"),
    "NumPy inputs": ("def changed(x, y):\n    return x.numpy().astype('float64'), y.numpy()", "float64"),
    "half inputs": ("def changed(x, y):\n    return x.half(), y", "float16"),
    "float64 from prepare": (
        "plain = data\ndef data():\n    return plain() | {'prepare': lambda x: x.double()}", "float64"),
    "(rows, 1) classes": ("def changed(x, y):\n    return x, y[:, None]", r"\(rows, 1\)"),
    "int32 classes": ("def changed(x, y):\n    return x, y.int()", "int32"),
    "uint8 classes": ("def changed(x, y):\n    return x, y.byte()", "uint8"),
    "DataParallel": (
        "def model():\n    torch.manual_seed(0)\n    return nn.DataParallel(Net())", "DataParallel"),
    "compiled": (
        "def model():\n    torch.manual_seed(0)\n    return torch.compile(Net())", "torch.compile"),
    "both": (
        "def model():\n    torch.manual_seed(0)\n    return torch.compile(nn.DataParallel(Net()))",
        "torch.compile and DataParallel"),
}  # fmt: skip


def scored(project, code=""):
    sys.modules.pop("mine", None)
    config = load_config(project(code))
    task = load_task(config)
    return rehearse(config, task), task.notices


@pytest.mark.parametrize("case", CONVERTED)
def test_a_conversion_is_told_and_scores_alike(project, case):
    code, told = CONVERTED[case]
    plain, nothing = scored(project)
    found, notices = scored(project, code)
    assert nothing == ()
    (notice,) = notices
    assert re.search(told, notice)
    assert found.metric == pytest.approx(
        plain.metric, abs=0.05 if "half" in case or "16" in case else 0
    )
    assert found.loss == pytest.approx(plain.loss, rel=0.02)


def test_boolean_classes_are_two(project):
    code = (
        "def model():\n    torch.manual_seed(0)\n    return Net(out=2)\n"
        "def changed(x, y):\n    return x, y.{}()\n"
    )
    numbers, _ = scored(project, code.format("bool().long"))
    found, notices = scored(project, code.format("bool"))
    assert found == numbers
    assert "bool" in notices[0]


def test_weights_saved_around_a_wrapper_find_their_network(project, tmp_path):
    plain, _ = scored(project)
    module = load_task(load_config(project())).module
    saved = {f"module._orig_mod.{name}": tensor for name, tensor in module.state_dict().items()}
    save_file(saved, tmp_path / "wrapped.safetensors")
    other = "def model():\n    torch.manual_seed(5)\n    return nn.DataParallel(Net())"
    config = load_config(project(other), ["task.weights=wrapped.safetensors"])
    assert rehearse(config, load_task(config)) == plain


@pytest.mark.parametrize("label", [255, -1, -100])
def test_labels_outside_the_classes_are_left_out_of_mean_iou_and_its_loss(project, label):
    """The value on the labelled rows alone, from a split without the others."""
    code = "def changed(x, y):\n    y = y.clone()\n    y[::2] = {}\n    return x{}, y{}\n"
    few, whole = code.format(label, "[1::2]", "[1::2]"), code.format(label, "", "")
    found = []
    for text in (few, whole):
        sys.modules.pop("mine", None)
        settings = ["task.metric=mean_iou", "goals[0].metric=mean_iou"]
        config = load_config(project(text), settings)
        found.append(rehearse(config, load_task(config)))
    assert found[1].metric == pytest.approx(found[0].metric)
    assert found[1].loss == pytest.approx(
        found[0].loss, rel=0.1
    )  # means of batches of other sizes
