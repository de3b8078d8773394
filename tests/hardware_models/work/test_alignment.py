from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.work.alignment import (
    blocked_operators,
    ceil_to,
    is_aligned,
    layout_changes,
    padded_macs,
    runs_alone,
)
from paredown.hardware_models.work.workload import OperatorWork, Work, read_work
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

X86 = load_device("x86-avx512-vnni-ort")


def convolution(into: int, out: int, **changes) -> OperatorWork:
    facts = {
        "name": "c", "kind": "conv", "in_channels": into, "out_channels": out,
        "kernel_size": (3, 3), "macs": 9 * into * out * 64,
    }  # fmt: skip
    return OperatorWork(**{**facts, **changes})


@pytest.mark.parametrize(("count", "expected"), [(1, 16), (16, 16), (17, 32), (0, 0)])
def test_counts_are_rounded_up_to_blocks(count, expected):
    assert ceil_to(count, 16) == expected


@pytest.mark.parametrize(
    ("into", "out", "padded"), [(16, 16, (16, 16)), (20, 24, (32, 32)), (3, 20, (3, 32))]
)
def test_float_convolutions_pad_both_sides_but_the_first_layer(into, out, padded):
    expected = 9 * 64 * padded[0] * padded[1]
    assert padded_macs(convolution(into, out), X86) == pytest.approx(expected)


def test_weights_that_are_no_constants_have_no_fast_layout():
    assert is_aligned(convolution(16, 16), X86)
    narrow = convolution(16, 16, onnx_type="int4")
    assert is_aligned(narrow, X86)  # a float constant once the model is loaded
    assert not is_aligned(narrow, load_device("stm32h743-cmsis-nn"))
    assert not is_aligned(convolution(16, 16, kind="conv_transpose"), X86)


def test_float_convolutions_pad_outputs_and_integer_ones_do_not():
    assert is_aligned(convolution(16, 18), X86)
    assert not is_aligned(convolution(18, 16), X86)
    assert not is_aligned(convolution(16, 18, integer=True), X86)
    assert not is_aligned(convolution(32, 34, groups=2), X86)


def test_a_pool_keeps_the_layout_of_whole_blocks_alone():
    for channels, keeps in ((16, True), (18, False)):
        conv = convolution(16, channels)
        pool = OperatorWork(name="p", kind="pool", in_channels=channels, sources=("c",))
        blocked = blocked_operators(Work(operators=(conv, pool)), X86)
        assert ("p" in blocked) is keeps


def test_an_addition_keeps_the_layout_of_what_it_adds():
    conv = convolution(16, 16)
    add = OperatorWork(name="a", kind="add", sources=("c",))
    norm = OperatorWork(name="n", kind="norm", sources=("a",))
    assert blocked_operators(Work(operators=(conv, add, norm)), X86) == {"c", "a"}
    integer = replace(conv, integer=True, onnx_type="int8")
    assert blocked_operators(Work(operators=(integer, add, norm)), X86) == frozenset()


def test_a_depthwise_convolution_of_whole_blocks_keeps_the_layout():
    def depthwise(channels: int) -> OperatorWork:
        return convolution(channels, channels, kind="depthwise_conv", groups=channels)

    assert is_aligned(depthwise(48), X86)
    assert not is_aligned(depthwise(40), X86)


def test_a_convolution_of_few_channels_reads_plain_values():
    """As after a low rank: the blocks before it are reordered, its result is blocked again."""
    wide = convolution(48, 32)
    few = convolution(8, 32, name="d", sources=("c",))
    blocked: set[str] = set()
    assert [layout_changes(op, X86, blocked) for op in (wide, few)] == [True, True]
    assert blocked == {"c", "d"}
    more = convolution(32, 32, name="e", sources=("d",))
    assert not layout_changes(more, X86, blocked)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.last = (
            nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 16), (16, 16), (16, 16), (16, 16))
        )

    def forward(self, x):
        x = self.stem(x).relu()
        return self.last((self.two(self.one(x).relu()) + x).relu())


def drafted(stem: str) -> Blueprint:
    """The block with a stem of floats or one that computes on codes."""
    torch.manual_seed(0)
    model_map = read_model_map(capture(Block(), torch.randn(1, 3, 8, 8)))
    first = next(s for s in model_map.segments if "stem" in s.layers)
    assert first.layers == ("stem",)
    if stem == "float":
        return draft(model_map, Candidate())
    layers = {"stem": LayerChoice(weight_bits=8, method="rtn")}
    codes = {first.name: SegmentChoice(activation_bits=8)}
    return draft(model_map, Candidate.of(layers=layers, segments=codes))


# By hand. Floats: the stem reads the plain image and writes blocks, in which all the rest lies and
# fuses. Codes: the stem writes plain values, so `one` reads them reordered; the addition of `two` in
# blocks and the plain shortcut is plain (`two` is reordered back), alone, and so is the activation
# behind it; `last` reads their result reordered.
BY_HAND = {
    "float": {"reorders": 0, "add": 0, "activation": 0},
    "codes": {"reorders": 3, "add": 1, "activation": 1},
}


@pytest.mark.parametrize("stem", BY_HAND)
def test_an_addition_fuses_only_in_the_blocked_layout(stem):
    blocked, alone = set(), set()
    found = Counter()
    for op in read_work(drafted(stem)).operators:
        found["reorders"] += layout_changes(op, X86, blocked)
        found[op.kind] += runs_alone(op, blocked, alone)
    assert {name: found[name] for name in BY_HAND[stem]} == BY_HAND[stem]


@pytest.mark.parametrize("stem", BY_HAND)
def test_onnx_runtime_runs_the_block_as_counted_by_hand(stem):
    """On every x86: blocks of 8 or of 16 channels give the same counts here."""
    if not run_by_runtime(model_of(drafted("float")))["ReorderOutput"]:
        pytest.skip("ONNX Runtime has no blocked layout on this machine")
    run = run_by_runtime(model_of(drafted(stem)))
    # The result leaves its blocks for the caller, which nothing is priced for.
    reorders = run["ReorderInput"] + run["ReorderOutput"] - 1
    found = {"reorders": reorders, "add": run["Add"], "activation": run["Relu"]}
    assert found == BY_HAND[stem]


def model_of(blueprint: Blueprint) -> bytes:
    return bytes(lower(imagine(blueprint, 0)).SerializeToString())


def run_by_runtime(model: bytes) -> Counter:
    """Operator types of the graph that ONNX Runtime runs, with its blocked layout."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    return Counter(node.op_type for node in graph.node)
