"""The database answers the same question once, within its memory, and predicts damage."""

from __future__ import annotations

from paredown.compressors.database import Database
from paredown.spaces.candidate import IDENTITY_CHOICE, LayerChoice


def fresh(base: Database, capacity: int) -> Database:
    return Database(base.model_map, base.tensors, base.statistics, base.ranges, capacity)


def test_only_widths_that_touch_a_layer_make_a_new_solution(mapped, database) -> None:
    base = fresh(database("lenet"), 2**30)
    layer = mapped("lenet").layer_by_name["fc3"]
    choice = LayerChoice(weight_bits=4)
    assert base.solution(layer, choice, {}) is base.solution(layer, choice, {"conv1": 3})
    assert base.solution(layer, choice, {}) is not base.solution(layer, choice, {"fc2": 20})


def test_memory_stays_within_its_limit(mapped, database) -> None:
    layers = mapped("lenet").layers
    limit = 400_000
    base = fresh(database("lenet"), limit)
    for bits in (2, 3, 4, 5, 6, 8):
        for layer in layers:
            base.solution(layer, LayerChoice(weight_bits=bits), {})
            assert base.held_bytes <= limit


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
