"""What is computed at padding counts nowhere: padded rows give what the same rows give one by one."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from paredown.compressors.statistics.calibration import CalibrationData, calibrate
from paredown.compressors.statistics.layer_statistics import LayerStatistics, collect_statistics
from paredown.compressors.statistics.padding import RealValues
from paredown.compressors.statistics.ranges import RangeCollector
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.reading import read_model_map

WIDTH, HEADS, LONGEST = 8, 2, 9
LENGTHS = (9, 2, 5, 4)


class Encoder(nn.Module):
    """Attention over real tokens, a gated MLP, and a head on the mean of the real tokens."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.word = nn.Embedding(20, WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 24), nn.Linear(12, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def attention(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = (
            part.view(batch, time, HEADS, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        seen = mask[:, None, None, :] != 0
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        else:
            scores = (q @ k.transpose(2, 3)) / 2.0
            mixed = scores.masked_fill(~seen, -1e9).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(batch, time, WIDTH))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.word(ids)
        x = self.norm(x + self.attention(x, mask))
        gate, up = self.up(x).split(12, -1)
        # Tokens and batch as one dimension, as some networks have their layers.
        inner = (functional.silu(gate) * up).reshape(-1, 12)
        x = x + self.down(inner).reshape(x.shape)
        real = mask[..., None].to(x.dtype)
        return self.head((x * real).sum(1) / real.sum(1))


def rows() -> tuple[Tensor, Tensor]:
    """Token ids with something at the padding, and the mask."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(20, (len(LENGTHS), LONGEST), generator=generator)
    return ids, (torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]).long()


def captured_encoder(fused: bool):
    torch.manual_seed(1)
    ids, mask = rows()
    captured = capture(Encoder(fused).eval(), (ids[:1], mask[:1]), (2, LONGEST))
    return captured, read_model_map(captured).layers


def loss(outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs[0], targets, reduction="sum")


def collected(fused, batches, targets, real):
    captured, layers = captured_encoder(fused)
    ranges = RangeCollector()
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        layers,
        batches,
        loss,
        targets,
        with_curvature=True,
        watch=ranges.note,
        real=real,
    )
    return found, ranges.found()


@pytest.mark.parametrize("fused", [True, False])
def test_padded_rows_give_the_statistics_and_ranges_of_the_rows_one_by_one(fused):
    ids, mask = rows()
    targets = torch.tensor([0, 1, 2, 0])
    padded, ranges = collected(fused, [[ids, mask]], [targets], [mask != 0])
    alone = [[ids[i : i + 1, :n], mask[i : i + 1, :n]] for i, n in enumerate(LENGTHS)]
    expected, expected_ranges = collected(fused, alone, list(targets.split(1)), None)
    counted, counted_ranges = collected(fused, [[ids, mask]], [targets], None)
    assert padded.keys() == expected.keys()
    assert len(padded) == 6
    for name, statistics in padded.items():
        for field in fields(LayerStatistics):
            one, other = (getattr(each[name], field.name) for each in (padded, expected))
            one, other = torch.as_tensor(one), torch.as_tensor(other)
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6), (name, field.name)
        tokens = len(LENGTHS) if name == "head" else sum(LENGTHS)
        assert statistics.positions == tokens
    assert counted["qkv"].positions == len(LENGTHS) * LONGEST
    assert not torch.allclose(counted["qkv"].gram, expected["qkv"].gram, rtol=1e-2)
    for name, found in ranges.items():
        known = expected_ranges[name]
        ends = torch.tensor([found.minimum, found.maximum])
        assert torch.allclose(ends, torch.tensor([known.minimum, known.maximum]), atol=1e-5), name
    assert ranges.keys() == expected_ranges.keys()
    assert counted_ranges["embedding"].minimum <= ranges["embedding"].minimum


def test_no_mask_and_a_mask_without_padding_are_the_same():
    ids, mask = rows()
    whole = torch.ones_like(mask)
    targets = [torch.tensor([0, 1, 2, 0])]
    plain, _ = collected(True, [[ids, whole]], targets, None)
    masked, _ = collected(True, [[ids, whole]], targets, [whole != 0])
    for name, statistics in plain.items():
        assert torch.allclose(statistics.gram, masked[name].gram)
        assert statistics.positions == masked[name].positions


class Neighbours(nn.Module):
    """A convolution over time, behind which nothing is known of single positions."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.conv = nn.Embedding(20, 4), nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.conv((self.word(ids) * mask[..., None]).transpose(1, 2))


def test_all_is_real_behind_what_mixes_positions():
    ids, mask = rows()
    captured = capture(Neighbours().eval(), (ids, mask))
    values = RealValues.of_inputs(captured.graph, [ids, mask], mask != 0)

    def _after(node, arguments, output):
        values.follow(node, arguments, output)
        return output

    run(captured.graph, captured.tensors, [ids, mask], after=_after)
    by_op = {node.op: node.name for node in captured.graph.nodes}
    assert values.of(by_op["aten.conv1d.default"]) is None
    turned = values.of(by_op["aten.transpose.int"])
    assert torch.equal(turned, (mask != 0)[:, None, :])


def test_the_mask_is_part_of_what_a_calibration_is_kept_by(tmp_path):
    from paredown.compressors.storage.shelf import Shelf

    captured, layers = captured_encoder(True)
    ids, mask = rows()
    shelf = Shelf(tmp_path, 2**24)

    def _positions(real):
        data = CalibrationData(
            batches=[[ids, mask]],
            targets=[torch.tensor([0, 1, 2, 0])],
            loss=loss,
            loss_digest="loss",
            seed=0,
            real=real,
        )
        found = calibrate(captured.graph, captured.tensors, layers, data, shelf)
        return found.statistics["qkv"].positions

    everything = len(LENGTHS) * LONGEST
    assert [_positions(None), _positions([mask != 0]), _positions(None)] == [
        everything,
        sum(LENGTHS),
        everything,
    ]
