"""Meters of files, a fake clock, and fits that must find what made the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from paredown.hardware_models.energy.metered_energy import (
    MeasuredEnergy,
    MeterError,
    NvmlMeter,
    RaplMeter,
    fit_energy,
    measure_energy,
)
from paredown.hardware_models.energy.table_energy import energy_parts
from paredown.hardware_models.work.workload import read_work


def write_zone(folder: Path, energy_uj: int, number: int = 0) -> None:
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir(exist_ok=True)
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "max_energy_range_uj").write_text("1000000\n")


def test_rapl_sums_its_packages_in_joules(tmp_path):
    for number in (0, 1):
        write_zone(tmp_path, 100, number)
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0, contained in it
    meter = RaplMeter(tmp_path)
    write_zone(tmp_path, 500_100, 0)
    write_zone(tmp_path, 250_100, 1)
    assert meter.read_j() == pytest.approx(0.75)
    assert meter.name == "RAPL of 2 processor packages"


def test_rapl_goes_on_where_its_counter_wraps(tmp_path):
    write_zone(tmp_path, 900_000)
    meter = RaplMeter(tmp_path)
    write_zone(tmp_path, 100_000)
    assert meter.read_j() == pytest.approx(0.2)
    write_zone(tmp_path, 300_000)
    assert meter.read_j() == pytest.approx(0.4)


def test_a_machine_without_rapl_says_so(tmp_path):
    with pytest.raises(
        MeterError, match=r"intel-rapl:0, which is not here.*leave energy relative"
    ):
        RaplMeter(tmp_path)


def test_a_counter_that_cannot_be_read_says_who_may(tmp_path):
    write_zone(tmp_path, 0)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(MeterError, match="only root may read"):
        RaplMeter(tmp_path)


def test_a_machine_without_a_driver_has_no_nvml_meter(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(MeterError, match="libnvidia-ml"):
        NvmlMeter()


@dataclass
class Machine:
    """Idles at 3 W; every run takes a tenth of a second and 0.5 J more."""

    now_s: float = 0.0
    spent_j: float = 0.0
    name: str = field(default="fake")

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.spent_j += 3 * seconds

    def run(self) -> None:
        self.sleep(0.1)
        self.spent_j += 0.5

    def read_j(self) -> float:
        return self.spent_j


def test_idle_power_is_taken_off():
    machine = Machine()
    found = measure_energy(machine.run, machine, clock=machine.clock, sleep=machine.sleep)
    assert found.run_j == pytest.approx(0.5)
    assert found.idle_w == pytest.approx(3)
    assert found.runs in (20, 21)
    assert found.meter == "fake"


def test_a_fit_finds_the_machine_that_made_its_numbers(residual_chain, blueprint_of):
    sizes = [(1, 8), (1, 16), (2, 16), (1, 32), (3, 24), (2, 40)]
    works = [read_work(blueprint_of(residual_chain(*size))) for size in sizes]

    def true_j(work) -> float:
        parts = energy_parts(work)
        return 1e-12 * (7 * parts.arithmetic_pj + 2 * parts.off_chip_pj) + 3e-6

    measured = [
        MeasuredEnergy(run_j=true_j(w), idle_w=1.0, runs=9, meter="fake") for w in works[:-1]
    ]
    fitted = fit_energy(works[:-1], measured)
    assert fitted.energy_j(works[-1]) == pytest.approx(true_j(works[-1]), rel=0.02)
    assert fitted.held_out_mape < 0.1
    assert all(factor >= 0 for factor in fitted.factors)
    assert np.isfinite(fitted.factors).all()


def test_joules_need_a_meter_that_counted_some(captured, blueprint_of):
    work = read_work(blueprint_of(captured))
    nothing = MeasuredEnergy(run_j=0.0, idle_w=1.0, runs=9, meter="fake")
    with pytest.raises(MeterError, match="above 0 J"):
        fit_energy([work] * 4, [nothing] * 4)
    with pytest.raises(MeterError, match="4 or more"):
        fit_energy([], [])
