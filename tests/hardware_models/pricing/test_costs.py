from __future__ import annotations

import math

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.memory.peak import peak_activation_bytes
from paredown.hardware_models.pricing.costs import CostModels
from paredown.hardware_models.work.workload import read_work

X86 = load_device("x86-avx512-vnni-ort")


def _packed(blueprint):
    return float(sum(s.packed_bytes for s in blueprint.storage.values()))


PACKED = {"packed_bytes": _packed}


def test_a_price_holds_every_cost(captured, blueprint_of, with_codes):
    plain = blueprint_of(captured)
    reference = read_work(plain)
    models = CostModels(
        device=X86, latency_model=RooflineLatency(X86), reference=reference, further=PACKED
    )
    blueprint = with_codes(blueprint_of(captured, bits=8, onnx_type="int8"))
    metrics = models.price(blueprint)
    work = read_work(blueprint)
    assert metrics["macs"] == reference.macs
    assert metrics["bops"] == work.bops
    assert metrics["latency_s"] == RooflineLatency(X86).predict(work).value_s
    assert metrics["latency_low_s"] < metrics["latency_s"] < metrics["latency_high_s"]
    assert metrics["peak_memory_bytes"] == peak_activation_bytes(blueprint, X86).planned_bytes
    assert metrics["energy_ratio"] < 1
    assert metrics["packed_bytes"] < _packed(plain) / 3
    assert all(math.isfinite(value) for value in metrics.values())
    assert models.price(plain)["energy_ratio"] == 1.0


def test_a_blueprint_has_one_price(captured, blueprint_of):
    blueprint = blueprint_of(captured)
    models = CostModels(
        device=X86,
        latency_model=RooflineLatency(X86),
        reference=read_work(blueprint),
        further=PACKED,
    )
    whole = models.price(blueprint)
    assert models.price(blueprint) == whole
    for name in whole:
        assert models.price(blueprint, [name]) == {name: whole[name]}
    assert models.price(blueprint, ["packed_bytes", "bops"]) == {
        name: whole[name] for name in ("packed_bytes", "bops")
    }
    with pytest.raises(KeyError, match="price_in_euro"):
        models.price(blueprint, ["price_in_euro"])
