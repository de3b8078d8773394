"""Latencies on further devices are their presets' and nothing else."""

from __future__ import annotations

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.elsewhere import latencies_elsewhere
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.work.workload import read_work


def test_each_device_has_a_metric_of_its_own(captured, blueprint_of):
    blueprint = blueprint_of(captured)
    devices = [load_device("rpi5-a76-ort"), load_device("stm32h743-tinyengine")]
    prices = latencies_elsewhere(devices, threads=4)
    found = {name: price(blueprint) for name, price in prices.items()}
    work = read_work(blueprint)
    pi = RooflineLatency(devices[0], 4).predict(work)
    micro = RooflineLatency(devices[1], 1).predict(work)
    assert found == {
        "latency_s@rpi5-a76-ort": pi.value_s,
        "latency_high_s@rpi5-a76-ort": pi.high_s,
        "latency_s@stm32h743-tinyengine": micro.value_s,
        "latency_high_s@stm32h743-tinyengine": micro.high_s,
    }


def test_without_devices_nothing_is_priced():
    assert latencies_elsewhere([]) == {}
