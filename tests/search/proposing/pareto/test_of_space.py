"""Tabulated prices and damages of candidates against those of each candidate by itself."""

import numpy as np
import pytest

from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.work.workload import read_work
from paredown.search.config.schema_space import (
    BlockRule,
    GroupRule,
    LayerRule,
    SegmentRule,
    SpaceSection,
)
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.pareto.of_space import SpaceCodes
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.knobs.architecture_choice import ARCHITECTURE

X86 = load_device("x86-avx512-vnni-ort")
RULES = (
    LayerRule(layers=("*",), weight_bits=(2, 4, 8, 32), method=("rtn", "gptq")),
    SegmentRule(segments=("*",), activation_bits=(8, 32), container=("compact", "fast")),
    GroupRule(groups=("*",), width=(1.0, 0.5)),
    BlockRule(blocks=("*",), drop=True),
)
GOALS = ("latency_s", "packed_bytes", "onnx_bytes")
NETWORKS = ["resnet_a", "vgg", "resnet_projection"]


@pytest.fixture
def space_of(mapped):
    def build(*names, rules=None):
        maps = {name if len(names) > 1 else "": mapped(name) for name in names}
        last = tuple(model_map.layers[-1].name for model_map in maps.values())
        low_rank = LayerRule(layers=last, rank_fraction=(1.0, 0.25), rank_step=1)
        rules = rules or (*RULES, low_rank)
        return build_space(SpaceSection(rules=rules), maps, capabilities(X86), GOALS)

    return build


def random_codes(space, count, seed=0):
    sizes = list(space.dimensions().values())
    return np.random.default_rng(seed).integers(0, sizes, (count, len(sizes)))


def sparse_codes(space, count, seed=0):
    """Most choices at their identity."""
    codes = random_codes(space, count, seed)
    return codes * (np.random.default_rng(seed + 1).random(codes.shape) < 0.2)


def price_of(space, *costs):
    def price(candidate):
        blueprint = draft(space.model_map(candidate), candidate)
        return np.array([float(cost(blueprint)) for cost in costs])

    return price


def latency_s(blueprint):
    return RooflineLatency(X86).predict(read_work(blueprint)).value_s


def both(codes, space, count):
    """What the tables say of random candidates, and what each costs by itself."""
    price = price_of(space, packed_file_bytes, onnx_file_bytes, latency_s)
    rows = np.vstack([random_codes(space, count), sparse_codes(space, count)])
    prices = codes.prices(price, 3)
    right = np.array([price(codes.candidate(row)) for row in rows])
    assert (prices.exact(rows) == right).all()
    return prices.quick(rows), right


@pytest.mark.parametrize("name", NETWORKS)
def test_tabulated_prices_are_those_of_single_candidates(space_of, name):
    space = space_of(name)
    found, right = both(SpaceCodes(space), space, 5)
    # Names and padding around the weights see all of a file: a thousandth of one of some hundred kB.
    assert found[:, 0] == pytest.approx(right[:, 0], abs=100)
    assert found[:, 1] == pytest.approx(right[:, 1], abs=500)
    # Weights that fit into a cache, or do not, see all of a network.
    assert np.median(np.abs(found[:, 2] / right[:, 2] - 1)) < 0.02


@pytest.mark.parametrize("name", ["resnet_a", "vgg"])
def test_where_segments_stay_as_they_are_prices_are_sums_of_layers(space_of, name):
    rules = [
        LayerRule(layers=("*",), weight_bits=(2, 4, 8, 32)),
        GroupRule(groups=("*",), width=(1.0, 0.5)),
    ]
    space = space_of(name, rules=tuple(rules))
    found, right = both(SpaceCodes(space), space, 30)
    assert found[:, 2] == pytest.approx(right[:, 2], rel=1e-9)
    assert found[:, 1] == pytest.approx(right[:, 1], abs=3)
    assert found[:, 0] == pytest.approx(right[:, 0], abs=100)


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_add_up_exactly(space_of, name):
    """Each layer's see its own choices, the widths around it and whether it is there."""
    space = space_of(name)
    codes = SpaceCodes(space)
    price = price_of(space, lambda blueprint: read_work(blueprint).macs)
    rows = random_codes(space, 15, seed=5)
    right = np.array([price(codes.candidate(row)) for row in rows])
    assert np.ptp(right) > 0.2 * right.max()
    assert codes.prices(price, 1).quick(rows) == pytest.approx(right, rel=1e-12)


def test_a_population_costs_a_few_single_prices(space_of):
    space = space_of("resnet_a", rules=(LayerRule(layers=("*",), weight_bits=(2, 4, 8, 32)),))
    codes = SpaceCodes(space)
    asked = []

    def price(candidate):
        asked.append(candidate.key)
        return np.array([float(packed_file_bytes(draft(space.model_map(candidate), candidate)))])

    found = codes.prices(price, 1).quick(random_codes(space, 3000))
    assert len(np.unique(found)) > 1000
    # Fourteen layers of four widths, each alone, and the uncompressed model.
    assert len(set(asked)) == len(asked) == 1 + 3 * len(space.dimensions())


def test_what_has_no_price_has_none_in_the_table(space_of):
    space = space_of("vgg")
    codes = SpaceCodes(space)
    first = space.architectures[0].model_map.layers[0].name

    def price(candidate):
        return None if candidate.layer(first).weight_bits == 2 else np.array([1.0, 2.0])

    rows = random_codes(space, 60)
    found = codes.prices(price, 2)
    unpriced = [codes.candidate(row).layer(first).weight_bits == 2 for row in rows]
    assert any(unpriced)
    assert np.isnan(found.exact(rows)).all(axis=1).tolist() == unpriced
    assert np.isnan(found.quick(rows)).any(axis=1)[unpriced].all()


@pytest.mark.parametrize("name", ["resnet_a", "vgg"])
def test_damages_are_the_terms_of_the_candidate(space_of, database, name):
    space = space_of(name)
    codes, terms = SpaceCodes(space), DamageTerms({"": database(name)})
    damage = codes.damage(terms)
    rows = np.vstack([random_codes(space, 25), sparse_codes(space, 25)])
    found = damage.terms(rows)
    assert found.shape == (50, len(damage.kinds))
    assert set(damage.kinds) <= {"layer", "width", "drop", "activations"}
    assert {"layer", "width", "activations"} <= set(damage.kinds)
    for row, values in zip(rows, found, strict=True):
        right = terms.of(codes.candidate(row))
        for kind in set(damage.kinds):
            mine = sorted(v for v, k in zip(values, damage.kinds, strict=True) if k == kind and v)
            theirs = sorted(v for n, v in right.items() if n.startswith(f"{kind}:") and v)
            assert mine == pytest.approx(theirs)
    assert (damage.terms(np.zeros((1, len(codes.names)), np.int64)) == 0).all()


def test_several_architectures_have_prices_and_damages_of_their_own(space_of, database):
    space = space_of("resnet_a", "vgg")
    codes = SpaceCodes(space)
    terms = DamageTerms({name: database(name) for name in ("resnet_a", "vgg")})
    price = price_of(space, packed_file_bytes)
    rows = sparse_codes(space, 40, seed=3)
    rows[:, codes.names.index(ARCHITECTURE)] = np.arange(40) % 2
    candidates = [codes.candidate(row) for row in rows]
    assert {c.architecture for c in candidates} == {"resnet_a", "vgg"}
    right = np.array([price(c) for c in candidates])
    assert codes.prices(price, 1).quick(rows) == pytest.approx(right, rel=1e-3)
    damage = codes.damage(terms)
    sums = damage.terms(rows).sum(axis=1)
    for total, candidate in zip(sums, candidates, strict=True):
        own = terms.of(candidate)
        # The reference counts for nothing, another network for a term of its own.
        own.pop("architecture:resnet_a", None)
        assert total == pytest.approx(sum(own.values()))
    assert damage.kinds.count("architecture") == 1


def test_codes_lead_to_candidates_and_back(space_of):
    space = space_of("resnet_a")
    codes = SpaceCodes(space)
    assert codes.candidate(np.zeros(len(codes.names), np.int64)) == Candidate()
    for row in random_codes(space, 30):
        candidate = codes.candidate(row)
        back = codes.codes(candidate)
        assert codes.candidate(back) == candidate
        assert (codes.same(row) == back).all()
        assert (codes.same(back) == back).all()


def test_equal_candidates_have_the_same_codes(space_of):
    """Layers of a dropped block choose nothing."""
    space = space_of("resnet_a")
    codes = SpaceCodes(space)
    (architecture,) = space.architectures
    block = architecture.model_map.blocks[-1]
    drop = next(k for k in architecture.knobs if k.kind == "drop" and block.name in k.targets)
    inside = [
        i
        for i, name in enumerate(codes.names)
        if any(target in block.layers for target in space.parameters(architecture)[name].targets)
    ]
    row = np.zeros(len(codes.names), np.int64)
    row[codes.names.index(drop.name)] = drop.domain.index(True)
    other = row.copy()
    other[inside] = 1
    assert inside
    assert (other != row).any()
    assert (codes.same(other) == codes.same(row)).all()


def test_methods_and_networks_stand_in_no_order(space_of):
    space = space_of("resnet_a", "vgg")
    codes = SpaceCodes(space)
    unordered = set(codes.unordered)
    assert ARCHITECTURE in unordered
    methods = {name for name in codes.names if name.endswith(":method")}
    assert methods
    assert unordered == methods | {ARCHITECTURE}
