"""The database answers the same question once, within its memory, and predicts damage."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch

from paredown.compressors.layers import database as module
from paredown.compressors.layers.database import Database
from paredown.compressors.layers.narrowed import NarrowedLayer
from paredown.compressors.layers.solution import Solution, solve, unchanged
from paredown.compressors.matrix.algebra import centred_gram, damage, to_matrix
from paredown.compressors.storage.shelf import Shelf
from paredown.spaces.candidates.candidate import IDENTITY_CHOICE, LayerChoice
from paredown.spaces.candidates.zeros import Zeros

NETWORKS = ("lenet", "mobilenet_v2", "unet", "words")


def fresh(base: Database, capacity: int = 2**30, shelf: Shelf | None = None) -> Database:
    made = (base.model_map, base.tensors, base.statistics, base.ranges)
    return Database(*made, capacity, shelf)


def same(a: Solution, b: Solution) -> bool:
    """Equal in every tensor, bit for bit save the sign of a zero."""
    pairs = [(a.matrix, b.matrix), (a.bias, b.bias)]
    for one, other in zip(a.factors, b.factors, strict=True):
        pairs += [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    return a.inner == b.inner and all(
        (x is None and y is None) or (x.dtype == y.dtype and torch.equal(x, y)) for x, y in pairs
    )


def test_only_widths_that_touch_a_layer_make_a_new_solution(mapped, database) -> None:
    base = fresh(database("lenet"))
    layer = mapped("lenet").layer_by_name["fc3"]
    choice = LayerChoice(weight_bits=4)
    for widths, solved in (({}, 1), ({"conv1": 3}, 1), ({"fc2": 20}, 2)):
        base.solution(layer, choice, widths)
        assert base.solved == solved


@pytest.mark.parametrize("name", NETWORKS)
def test_another_process_reads_what_was_solved(
    name, mapped, database, random_candidate, tmp_path
) -> None:
    first = fresh(database(name), shelf=Shelf(tmp_path, 2**30))
    candidate = random_candidate(mapped(name), 0, None)
    widths = dict(candidate.widths)
    asked = [(layer, candidate.layer(layer.name), widths) for layer in mapped(name).layers]
    found = [first.solution(*what) for what in asked]
    second = pickle.loads(pickle.dumps(first))
    for what, solution in zip(asked, found, strict=True):
        assert same(second.solution(*what), solution)
        assert second.damage(*what) == first.damage(*what)
    assert second.solved == first.solved


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_restored_is_what_was_solved(name, mapped, database, random_candidate) -> None:
    base = fresh(database(name))
    model_map = mapped(name)
    candidate = random_candidate(model_map, 5, None)
    for layer in model_map.layers:
        choice, widths = candidate.layer(layer.name), dict(candidate.widths)
        narrowing = base._narrowing(layer, widths)
        bias = None if layer.bias is None else base.tensors[layer.bias]
        weight, statistics = base.tensors[layer.weight], base.statistics[layer.name]
        solved = (
            unchanged(layer, weight, bias)
            if choice.is_identity and narrowing.is_whole
            else solve(NarrowedLayer.of(layer, weight, bias, statistics, narrowing), choice)
        )
        restored = base.solution(layer, choice, widths)
        # The matrix is made of the factors: the same to the last digits of a product.
        assert torch.allclose(restored.matrix, solved.matrix, rtol=1e-5, atol=1e-6)
        assert same(replace(restored, matrix=solved.matrix), solved)


def test_a_change_of_weight_or_statistics_is_solved_anew(mapped, database, tmp_path) -> None:
    base = database("lenet")
    layer, choice = mapped("lenet").layer_by_name["fc2"], LayerChoice(weight_bits=3)
    shelf = Shelf(tmp_path, 2**30)
    fresh(base, shelf=shelf).solution(layer, choice, {})
    weight = base.tensors[layer.weight].clone()
    weight[0, 0] += 1e-3
    changed = {**base.tensors, layer.weight: weight}
    other = Database(base.model_map, changed, base.statistics, base.ranges, shelf=shelf)
    other.solution(layer, choice, {})
    assert other.solved == 1
    own = base.statistics[layer.name]
    moved = {**base.statistics, layer.name: replace(own, gram=own.gram * 1.001)}
    other = Database(base.model_map, base.tensors, moved, base.ranges, shelf=shelf)
    other.solution(layer, choice, {})
    assert other.solved == 1
    other = fresh(base, shelf=shelf)
    other.solution(layer, choice, {})
    assert other.solved == 0


def test_a_damaged_file_is_solved_again_and_told(mapped, database, tmp_path, caplog) -> None:
    layer, choice = mapped("lenet").layer_by_name["fc1"], LayerChoice(weight_bits=4)
    shelf = Shelf(tmp_path, 2**30)
    found = fresh(database("lenet"), shelf=shelf).solution(layer, choice, {})
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = fresh(database("lenet"), shelf=shelf)
    assert same(again.solution(layer, choice, {}), found)
    assert again.solved == 1
    assert "is damaged" in caplog.text
    assert fresh(database("lenet"), shelf=shelf).solution(layer, choice, {}) is not None


def test_channel_orders_are_read_back(mapped, database, tmp_path) -> None:
    shelf = Shelf(tmp_path, 2**30)
    group = mapped("mobilenet_v2").groups[0]
    plain = database("mobilenet_v2").kept_channels(group.name, 3)
    for _ in range(2):
        base = fresh(database("mobilenet_v2"), shelf=shelf)
        assert torch.equal(base.kept_channels(group.name, 3), plain)
        assert len(list(tmp_path.iterdir())) == 1


def test_memory_stays_within_its_limit(mapped, database) -> None:
    layers = mapped("lenet").layers
    limit = 60_000
    base = fresh(database("lenet"), limit)
    for bits in (1, 2, 3, 4, 5, 6, 8):
        for layer in layers:
            base.solution(layer, LayerChoice(weight_bits=bits), {})
            assert base.held_bytes <= limit


def test_small_layers_count_with_the_objects_that_hold_them(mapped, database) -> None:
    layer = mapped("lenet").layer_by_name["conv1"]
    base = fresh(database("lenet"), 20_000)
    for bits in (2, 3, 4, 5, 6, 8):
        for method in ("rtn", "laq", "gptq"):
            base.solution(layer, LayerChoice(weight_bits=bits, method=method), {})
    # Three tensors each, of 230 bytes at most: without their objects all eighteen would fit.
    assert len(base._entries) <= 20_000 // 3_600


def test_narrower_widths_keep_a_subset_of_the_channels(mapped, database) -> None:
    base = database("mobilenet_v2")
    for group in mapped("mobilenet_v2").groups:
        few = set(base.kept_channels(group.name, group.channels // 3).tolist())
        many = set(base.kept_channels(group.name, group.channels // 2).tolist())
        assert few <= many
        assert len(few) == group.channels // 3


def test_damage_is_zero_for_the_identity_and_falls_with_bits(mapped, database) -> None:
    base = database("lenet")
    for layer in mapped("lenet").layers:
        assert base.damage(layer, IDENTITY_CHOICE, {}) == 0
        harm = [base.damage(layer, LayerChoice(weight_bits=bits), {}) for bits in (2, 4, 8)]
        assert harm == sorted(harm, reverse=True)


@pytest.mark.parametrize("name", ["lenet", "mobilenet_v2", "words"])
def test_damage_is_that_of_the_solution_that_is_given(name, mapped, database) -> None:
    base = fresh(database(name))
    narrow = {group.name: max(1, group.channels // 2) for group in mapped(name).groups}
    asked = [(LayerChoice(weight_bits=b, method=m), {}) for b in (3, 8) for m in ("rtn", "gptq")]
    sparse = LayerChoice(weight_bits=4, zeros=Zeros(0.5, "element"), method="gptq")
    for layer in mapped(name).layers:
        statistics = base.statistics[layer.name]
        gram = statistics.gram
        if layer.bias is not None:
            gram = centred_gram(gram, statistics.input_mean)
        for choice, widths in (*asked, (sparse, {}), (sparse, narrow)):
            matrix = base.solution(layer, choice, widths).matrix
            rows = base.kept_rows(layer, widths)
            rows = slice(None) if rows is None else rows
            dense = to_matrix(base.tensors[layer.weight], layer)
            delta = torch.zeros_like(dense)
            delta[rows] = matrix - dense[rows]
            if layer.kind == "embedding":  # outputs that are gone count where they are read
                delta[:, (matrix == 0).all(dim=0)] = 0
            harm = damage(delta, gram, statistics.gradient_gram)
            assert base.damage(layer, choice, widths) == pytest.approx(harm, rel=1e-4, abs=1e-15)


def test_the_largest_layers_are_solved_first(mapped, database, monkeypatch) -> None:
    base, order = fresh(database("lenet")), []

    def _solve(narrowed, choice):
        order.append(narrowed.layer)
        return solve(narrowed, choice)

    monkeypatch.setattr(module, "solve", _solve)
    layers = mapped("lenet").layers
    asked = [(layer, LayerChoice(weight_bits=8)) for layer in layers[1:]]
    base.solve([(layers[0], IDENTITY_CHOICE), *asked], {}, wait=False)
    assert [each.weight_count for each in order] == sorted(
        (layer.weight_count for layer, _ in asked), reverse=True
    )
    base.solve(asked, {}, wait=True)
    assert base.solved == len(asked)


def test_two_that_are_asked_for_the_same_share_the_work(mapped, database, tmp_path) -> None:
    both = [fresh(database("unet"), shelf=Shelf(tmp_path, 2**30)) for _ in range(2)]
    layers = mapped("unet").layers
    asked = [(layer, LayerChoice(weight_bits=3, method="gptq")) for layer in layers]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.solve(asked, {}, wait=True), both))
    assert both[0].solved + both[1].solved == len(asked)
    for layer, choice in asked:
        assert same(*(each.solution(layer, choice, {}) for each in both))
    assert both[0].solved + both[1].solved == len(asked)
