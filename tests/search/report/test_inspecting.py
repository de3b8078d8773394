"""What `inspect` shows: every part of the model, every knob, and all that is left alone."""

import io
import json

import pytest
from rich.console import Console
from torch import nn

from paredown.compressors.low_rank.rank_by_error import Found
from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.config.schema_space import LayerRule, SpaceSection
from paredown.search.evaluating.baseline import Baseline
from paredown.search.report.inspecting import inspection, inspection_json
from paredown.search.space.found_ranks import Question
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.capture.capturing import capture
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.structure.reading import read_model_map

DEVICE = "x86-avx512-vnni-ort"

DEFAULT = SpaceSection()


BASELINE = Baseline(costs={"onnx_bytes": 5.0}, latency_source="made up", is_preset=False)


def shown_of(model_map, width=240, section=DEFAULT, ranks=None):
    """The space drawn by the rules, and what is printed of it."""
    offered = capabilities(load_device(DEVICE))
    space = build_space(section, {"": model_map}, offered, ["accuracy", "onnx_bytes"])
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(inspection(space, offered, BASELINE, ranks))
    return space, console.file.getvalue()


def test_inspection_names_every_part_and_all_that_is_left_out(mapped, zoo):
    model_map = mapped(next(name for name in zoo if "resnet" in name))
    space, shown = shown_of(model_map)
    for part in (*model_map.layers, *model_map.groups, *model_map.blocks, *model_map.segments):
        assert part.name in shown
    assert all(item.what in shown for item in space.left_out)
    assert f"{len(space.dimensions())} open knobs" in shown
    assert f"bytes only on {DEVICE}: 4, 2" in shown


def test_heads_are_shown_with_their_entries_and_each_part_as_a_segment(mapped):
    model_map = mapped("encoder")
    space, shown = shown_of(model_map)
    assert ["layers.0.query", "2", "×", "16"] in [x.split()[:4] for x in shown.splitlines()]
    plain = inspection_json(space, capabilities(load_device(DEVICE)), BASELINE)
    (network,) = plain["architectures"]
    sizes = {group["name"]: (group["channels"], group["entries"]) for group in network["groups"]}
    assert sizes["layers.0.query"] == (2, 16)
    assert sizes["layers.0.up"] == (64, 1)
    inside = {layer: s["name"] for s in network["segments"] for layer in s["layers"]}
    parts = [[f"layers.{i}.{n}" for n in ("query", "key", "value", "proj")] for i in (0, 1)]
    parts += [[f"layers.{i}.{n}" for n in ("up", "down")] for i in (0, 1)]
    places = [{inside[name] for name in part} for part in parts]
    assert [len(place) for place in places] == [1, 1, 1, 1]
    assert len(set.union(*places)) == 4


def test_ranks_are_shown_with_their_forms(mapped):
    rule = LayerRule(layers=("*",), rank_fraction=(1.0, 0.25), decomposition=("spatial", "tucker"))
    _, shown = shown_of(mapped("resnet_a"), section=SpaceSection(rules=(rule,)))
    assert "whole, 25% spatial, 25% tucker" in shown
    assert "whole, 25% channel" in shown
    knob = RankKnob(name="r", targets=("a",), domain=(Rank(0.25, "tucker", 0.5),))
    assert knob.domain_text == "25% × 50% tucker"


def test_ranks_found_by_error_are_shown_where_there_are_any(mapped):
    model_map = mapped("resnet_a")
    question = Question(architecture="", layer="conv1", form="channel", step=1, error=0.1)
    space, shown = shown_of(model_map)
    assert "rank by error" not in shown
    _, shown = shown_of(model_map, ranks={question: None})
    assert "error 0.1" in shown.split("rank by error")[1]
    offered = capabilities(load_device(DEVICE))
    plain = inspection_json(space, offered, BASELINE, {question: None})
    (row,) = plain["rank_by_error"]
    assert (row["layer"], row["error"], row["ranks"]) == ("conv1", 0.1, None)


def test_ranks_and_shares_of_weights_stand_by_layer_form_and_error(mapped):
    name, model_map = "layer3.1.conv2", mapped("resnet_a")
    assert model_map.layer_by_name[name].weight_shape == (32, 32, 3, 3)

    def question(form, error, owner=""):
        return Question(architecture=owner, layer=name, form=form, step=1, error=error)

    ranks = {
        question("channel", 0.02): None,
        question("channel", 0.1): Found(ranks=(16,), lost=0.09),
        question("tucker", 0.1): Found(ranks=(16, 32), lost=0.08),
    }
    other = {question("channel", 0.1, "b"): Found(ranks=(1,), lost=0.0)}
    space, shown = shown_of(model_map, ranks=ranks | other)
    table = shown.split("rank by error")[1].split("ranks, and the share")[0]
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["form", "error", "0.02", "error", "0.1"]
    # 16 * (32 * 9 + 32) and 16 * 32 + 16 * 32 * 9 + 32 * 32 of 9,216.
    assert lines[1] == [name, "channel", "-", "16", "(56%)"]
    assert lines[2] == [name, "tucker", "16", "×", "32", "(67%)"]
    assert "rank by error" not in shown_of(model_map, ranks=other)[1]

    plain = inspection_json(space, capabilities(load_device(DEVICE)), BASELINE, ranks)
    rows = json.loads(json.dumps(plain))["rank_by_error"]
    assert [(row["error"], row["ranks"], row["weights"]) for row in rows] == [
        (0.02, None, None), (0.1, [16], 5_120), (0.1, [16, 32], 6_144),
    ]  # fmt: skip


def test_reasons_keep_their_room_on_a_narrow_terminal(mapped):
    space, shown = shown_of(mapped("resnet_a"), width=80)
    told = set(shown.split("left out", 1)[1].split())
    assert len(space.left_out) > 3
    for item in space.left_out:
        assert set(item.reason.split()) <= told


@pytest.mark.parametrize("transposed", [nn.ConvTranspose1d, nn.ConvTranspose2d])
def test_a_grouped_transposed_convolution_is_listed_with_the_reason(transposed):
    plain = nn.Conv1d if transposed is nn.ConvTranspose1d else nn.Conv2d
    network = nn.Sequential(plain(3, 8, 3), nn.ReLU(), transposed(8, 8, 2, stride=2, groups=2))
    size = (1, 3, 9) if plain is nn.Conv1d else (1, 3, 9, 9)
    import torch

    space, shown = shown_of(read_model_map(capture(network.eval(), torch.zeros(size))))
    assert "2" not in {layer.name for layer in space.architectures[0].model_map.layers}
    (line,) = [line for line in shown.splitlines() if "no output axis for scales" in line]
    assert line.split()[0] == "2"
