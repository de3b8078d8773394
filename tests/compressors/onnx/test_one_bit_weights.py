"""1-bit weights in ONNX Runtime: as 2-bit integers, a dead channel among them, with every kernel."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import (
    fallbacks,
    kernels,
    promised_kernels,
    promises,
    session,
)
from paredown.compressors.layers.database import Database
from paredown.compressors.models.assembling import assemble
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.sizes import onnx_file_bytes
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.statistics.ranges import collect_ranges
from paredown.compressors.storage.compressed import CompressedModel
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

SEGMENTS = {
    "compact": SegmentChoice(),
    "fast": SegmentChoice(container="fast"),
    "static": SegmentChoice(activation_bits=8),
    "static fast": SegmentChoice(activation_bits=8, container="fast"),
    "dynamic": SegmentChoice(activation_bits=8, ranges="dynamic"),
}


class Pictures(nn.Module):
    """Convolutions of every kind, then linear layers; a channel of each is dead but for its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8)
        self.back = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.wide, self.head = nn.Linear(4 * 12 * 12, 920), nn.Linear(920, 8)
        for layer in (self.first, self.deep, self.wide, self.head):
            layer.weight.data[1] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.first(x).relu()).relu()
        x = self.back(x).relu().flatten(1)
        return self.head(self.wide(x).relu())


class Words(nn.Module):
    """A table whose weight is that of the last layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(40, 128), nn.Linear(128, 128)
        self.out = nn.Linear(128, 40)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.table(x)).relu())


NETWORKS = {
    "pictures": (Pictures, lambda rows: torch.randn(rows, 3, 8, 8)),
    "words": (Words, lambda rows: torch.randint(0, 40, (rows, 5))),
}


@pytest.fixture(scope="module")
def databases() -> dict[str, Database]:
    found = {}
    for name, (build, example) in NETWORKS.items():
        torch.manual_seed(0)
        captured = capture(build().eval(), example(1))
        model_map = read_model_map(captured)
        graph, tensors, inputs = captured.graph, captured.tensors, [example(32)]
        statistics = collect_statistics(graph, tensors, model_map.layers, [inputs])
        ranges = collect_ranges(graph, tensors, [inputs])
        found[name] = Database(model_map, tensors, statistics, ranges)
    return found


def one_bit(database: Database, segment: SegmentChoice, **choice) -> CompressedModel:
    model_map = database.model_map
    candidate = Candidate.of(
        layers={x.name: LayerChoice(weight_bits=1, **choice) for x in model_map.layers},
        segments={each.name: segment for each in model_map.segments},
    )
    return assemble(candidate, database)


def check(model: CompressedModel, x: Tensor, share: float) -> bytes:
    """The file, whose outputs are within a share of the model's largest."""
    file = bytes(lower(model).SerializeToString())
    (name,) = model.blueprint.graph.inputs
    (given,) = session(file, exact=True).run(None, {name: x.numpy()})
    with torch.no_grad():
        wanted = model([x])[0]
    assert float((torch.from_numpy(given) - wanted).abs().max()) <= share * float(
        wanted.abs().max()
    )
    return file


@pytest.mark.parametrize(("name", "segment"), product(NETWORKS, SEGMENTS))
def test_the_runtime_gives_what_was_scored(databases, name: str, segment: str) -> None:
    model = one_bit(databases[name], SEGMENTS[segment], method="gptq")
    # Between codes one may tip where a sum ends half way between two.
    file = check(model, NETWORKS[name][1](1), 0.03 if "static" in segment else 1e-5)
    assert len(file) == onnx_file_bytes(model.blueprint)
    assert fallbacks(file, promises(model.blueprint)) == ()
    types = {each.data_type for each in onnx.load_from_string(file).graph.initializer}
    assert (onnx.TensorProto.INT2 in types) == (SEGMENTS[segment].container == "compact")


def test_groups_of_inputs_have_signs_and_scales_of_their_own(databases) -> None:
    for name, (_, example) in NETWORKS.items():
        for container in ("compact", "fast"):
            segment = SegmentChoice(container=container)
            model = one_bit(databases[name], segment, group_size=32, method="descent")
            assert any(t.storage.group_size for t in model.stored.values())
            check(model, example(1), 1e-5)


def test_integer_kernels_and_narrow_ones_read_them(databases) -> None:
    static = one_bit(databases["pictures"], SEGMENTS["static"])
    run = kernels(bytes(lower(static).SerializeToString()))
    for kernel, count in promised_kernels(static.blueprint).items():
        assert run[kernel] == count
    assert run["QLinearConv"] == 2
    narrow = kernels(
        bytes(lower(one_bit(databases["pictures"], SegmentChoice())).SerializeToString())
    )
    assert narrow["MatMulNBits"] >= 1


def test_a_dead_channel_of_signs_gives_its_bias_between_codes(databases) -> None:
    model = one_bit(databases["pictures"], SEGMENTS["static"])
    weight = model.stored["head.weight"]
    assert torch.equal(weight.values.abs(), torch.ones_like(weight.values))
    bias = databases["pictures"].tensors["head.bias"][1]
    (name,) = model.blueprint.graph.inputs
    (given,) = session(lower(model).SerializeToString(), exact=True).run(
        None, {name: torch.randn(1, 3, 8, 8).numpy()}
    )
    np.testing.assert_allclose(given[:, 1], float(bias), rtol=1e-3)
