"""Channel groups are those that a person would draw into the architecture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.capture.capturing import capture
from paredown.spaces.channels.parts import Part, size_of
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map

Maps = Callable[[str], ModelMap]
Read = Callable[[nn.Module, Tensor], ModelMap]


def producers(model_map: ModelMap) -> dict[str, tuple[str, ...]]:
    return {group.name: group.producers for group in model_map.groups}


def reason(model_map: ModelMap, layer: str) -> str:
    (found,) = [
        entry.reason
        for entry in model_map.left_out
        if layer in entry.what.removeprefix("channels of ").split(", ")
    ]
    return found


def test_resnet20_narrows_inside_its_blocks_only(mapped: Maps) -> None:
    model_map = mapped("resnet20")
    inner = [f"layer{s}.{i}.conv1" for s in (1, 2, 3) for i in range(3)]
    assert producers(model_map) == {name: (name,) for name in inner}
    assert [g.consumers for g in model_map.groups] == [(n[:-1] + "2",) for n in inner]
    assert "pads the channels" in reason(model_map, "layer1.0.conv2")


def test_projection_shortcuts_tie_a_whole_stage(mapped: Maps) -> None:
    groups = producers(mapped("resnet_projection"))
    assert groups["layer2.0.conv2"] == ("layer2.0.conv2", "layer2.0.down.0", "layer2.1.conv2")
    assert groups["conv1"] == ("conv1", "layer1.0.conv2", "layer1.1.conv2")


def test_expansion_and_depthwise_shrink_together(mapped: Maps) -> None:
    groups = {group.name: group for group in mapped("mobilenet_v2").groups}
    group = groups["blocks.1.expand.0"]
    assert group.producers == ("blocks.1.expand.0", "blocks.1.depthwise.0")
    assert group.consumers == ("blocks.1.project.0",)
    assert group.channels == 48


def test_concatenated_channels_stay_apart(mapped: Maps) -> None:
    model_map = mapped("densenet")
    parts = model_map.tensor_parts[("transition_norm.running_var", 0)]
    assert parts == (Part("stem", 12), Part("block1.0.conv2", 8), Part("block1.1.conv2", 8))
    assert model_map.tensor_parts[("transition.weight", 1)] == parts


def test_flattening_repeats_every_channel(mapped: Maps) -> None:
    assert mapped("lenet").tensor_parts[("fc1.weight", 1)] == (Part("conv2", 16, 9),)
    assert mapped("vgg").tensor_parts[("classifier.0.weight", 1)] == (Part("features.10", 32, 16),)


def test_a_gate_shrinks_with_what_it_gates(mapped: Maps) -> None:
    groups = producers(mapped("squeeze_excite"))
    assert groups["stem.0"] == ("stem.0", "gate1.fc2")
    assert groups["gate1.fc1"] == ("gate1.fc1",)


def test_transposed_layers_shrink_on_their_second_axis(mapped: Maps) -> None:
    parts = mapped("unet").tensor_parts
    assert parts[("up1.weight", 1)] == (Part("up1", 8),)
    assert parts[("up1.weight", 0)] == (Part("merge2.3", 16),)
    assert parts[("merge1.0.weight", 1)] == (Part("down1.3", 8), Part("up1", 8))


def test_linear_layers_and_embeddings_have_groups_too(mapped: Maps) -> None:
    assert set(producers(mapped("words"))) == {"embedding", "mix"}
    assert mapped("words").tensor_parts[("embedding.weight", 1)] == (Part("embedding", 24),)
    assert set(producers(mapped("mlp"))) == {"layers.1", "layers.4"}


def test_prelu_slopes_follow_their_channels(mapped: Maps) -> None:
    assert mapped("two_outputs").tensor_parts[("box.1.weight", 0)] == (Part("box.0", 12),)


def test_every_cnn_has_a_verified_group(mapped: Maps, cnn_name: str) -> None:
    assert mapped(cnn_name).groups


def test_outputs_never_shrink(mapped: Maps, zoo_name: str) -> None:
    model_map = mapped(zoo_name)
    assert not set(model_map.graph.outputs) & set(model_map.value_parts)
    assert any("feeds the model's output" in entry.reason for entry in model_map.left_out)


def test_parts_fill_their_dimension_and_name_known_groups(mapped: Maps, zoo_name: str) -> None:
    model_map = mapped(zoo_name)
    known = {group.name: group.channels for group in model_map.groups}
    shapes = [
        (model_map.tensor_shapes[name][dim], parts)
        for (name, dim), parts in model_map.tensor_parts.items()
    ]
    shapes += [
        (model_map.graph.shape_of(name)[dim], parts)
        for name, (dim, parts) in model_map.value_parts.items()
    ]
    for size, parts in shapes:
        assert size_of(parts) == size
        assert any(part.group is not None for part in parts)
        assert all(known[p.group] == p.channels for p in parts if p.group is not None)


class Attention(nn.Module):
    """A map with one channel that weighs all channels of another."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 1)
        self.weight = nn.Conv2d(3, 1, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x) * torch.sigmoid(self.weight(x)))


def test_a_single_channel_broadcasts_and_is_no_group(read: Read) -> None:
    model_map = read(Attention(), torch.randn(2, 3, 4, 4))
    assert producers(model_map) == {"features": ("features",)}
    assert "single channel" in reason(model_map, "weight")


class Tagger(nn.Module):
    """Two recurrent layers, the second in both directions, and a linear one that reads them."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.first = kind(3, 6, batch_first=True)
        self.second = kind(6, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)[0])[0])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_hidden_units_are_channels_of_all_gates_and_states(
    read: Read, kind: type[nn.RNNBase]
) -> None:
    torch.manual_seed(0)
    model_map = read(Tagger(kind).eval(), torch.randn(2, 5, 3))
    found = {
        group.name: (group.channels, group.producers, group.consumers)
        for group in model_map.groups
    }
    first = ("first.weight_ih_l0", "first.weight_hh_l0")
    there, back = (
        (f"second.weight_ih_l0{way}", f"second.weight_hh_l0{way}") for way in ("", "_reverse")
    )
    assert found == {
        first[0]: (6, first, (first[1], there[0], back[0])),
        there[0]: (4, there, (there[1], "head")),
        back[0]: (4, back, (back[1], "head")),
    }


class Shared(nn.Module):
    """A layer called on a value that may be narrowed and on an input that may not, or on two that may."""

    def __init__(self, on_input: bool) -> None:
        super().__init__()
        self.on_input = on_input
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.shared, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.first(x))
        b = x if self.on_input else torch.relu(self.second(x))
        return self.out(torch.tanh(self.shared(a)) + torch.tanh(self.shared(b)))


@pytest.mark.parametrize("on_input", [False, True])
def test_calls_of_one_weight_are_narrowed_together_or_not_at_all(on_input: bool) -> None:
    model_map = read_model_map(capture(Shared(on_input).eval(), torch.randn(2, 8)))
    groups = {group.name: group for group in model_map.groups}
    assert groups["shared"].producers == ("shared",)
    if on_input:
        assert groups.keys() == {"shared"}
        (reason,) = [x.reason for x in model_map.left_out if "first" in x.what]
        assert "cannot change" in reason
    else:
        assert groups["first"].producers == ("first", "second")
        assert groups["first"].consumers == ("shared",)
