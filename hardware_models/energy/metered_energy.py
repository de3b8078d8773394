"""Joules, from a meter: what is measured on a machine that has one, and a model fitted to it.

A meter counts joules of everything it feeds, so a run is repeated for seconds and the idle power of
the same machine is reported beside it.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.optimize import nnls

from paredown.hardware_models.devices.gains import Energy
from paredown.hardware_models.energy.table_energy import energy_parts
from paredown.hardware_models.work.workload import Work
from paredown.spaces.system.errors import ParedownError

POWERCAP = Path("/sys/class/powercap")
_LEAST_NETWORKS = 4
_MICRO = 1e-6
_MILLI = 1e-3
_PICO = 1e-12


class MeterError(ParedownError):
    """No meter is here, or it may not be read."""


class EnergyMeter(Protocol):
    """A counter of joules that only rises."""

    @property
    def name(self) -> str:
        """What is metered, for reports."""

    def read_j(self) -> float:
        """Joules since some fixed moment."""


class RaplMeter:
    """The packages of an x86 processor, by Linux's powercap files.

    The counters wrap around; each reading is unwrapped against the one before, so the meter must be
    read more often than that (minutes at full load).

    Raises:
        MeterError: The files are missing or may not be read.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = sorted(powercap.glob("intel-rapl:?"))
        if not self._zones:
            raise MeterError(
                f"a RAPL meter needs {powercap}/intel-rapl:0, which is not here: virtual machines, "
                "containers and most ARM boards have none; use a machine with one, or leave energy "
                "relative"
            )
        self._sizes = [self._number(zone / "max_energy_range_uj") for zone in self._zones]
        self._last = [self._number(zone / "energy_uj") for zone in self._zones]
        self._total_uj = 0

    @property
    def name(self) -> str:
        """The kind of meter and the number of processor packages, for reports."""
        return f"RAPL of {len(self._zones)} processor packages"

    def read_j(self) -> float:
        """Joules since the meter was opened."""
        now = [self._number(zone / "energy_uj") for zone in self._zones]
        for before, after, size in zip(self._last, now, self._sizes, strict=True):
            self._total_uj += after - before if after >= before else after - before + size
        self._last = now
        return self._total_uj * _MICRO

    @staticmethod
    def _number(path: Path) -> int:
        try:
            return int(path.read_text(encoding="ascii"))
        except OSError as error:
            raise MeterError(
                f"{path} must be readable, got {error.strerror or error}; on Linux 5.10 and later "
                "only root may read it: run as root, or `chmod a+r` it"
            ) from error


class NvmlMeter:
    """One NVIDIA GPU, by the driver's total energy counter (Volta and newer).

    Raises:
        MeterError: There is no driver, no such GPU, or the GPU has no counter.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise MeterError(
                "an NVML meter needs NVIDIA's driver (libnvidia-ml.so.1), which is not here; use a "
                "machine with one, or leave energy relative"
            ) from error
        self._index = index
        self._gpu = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(self._gpu))
        self.read_j()

    @property
    def name(self) -> str:
        """The kind of meter and the index of the GPU, for reports."""
        return f"NVML of GPU {self._index}"

    def read_j(self) -> float:
        """Joules since the driver was loaded."""
        found = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._gpu, ctypes.byref(found))
        return found.value * _MILLI

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._nvml, name)(*arguments)
        if code:
            raise MeterError(f"{name} must return 0, got {code}: GPU {self._index} has no counter")


@dataclass(frozen=True, kw_only=True)
class MeasuredEnergy:
    """Joules of one run, idle power taken off, beside that power and what was metered."""

    run_j: float
    idle_w: float
    runs: int
    meter: str


def measure_energy(
    run: Callable[[], object],
    meter: EnergyMeter,
    *,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> MeasuredEnergy:
    """Joules of one `run`, over as many as fit into `seconds`, after as long of idling.

    Other work on the machine is metered too, so it must be quiet.
    """
    start_j, start_s = meter.read_j(), clock()
    sleep(seconds)
    idle_w = (meter.read_j() - start_j) / (clock() - start_s)
    start_j, start_s, runs = meter.read_j(), clock(), 0
    while clock() - start_s < seconds:
        run()
        runs += 1
    spent_j = meter.read_j() - start_j - idle_w * (clock() - start_s)
    return MeasuredEnergy(run_j=spent_j / runs, idle_w=idle_w, runs=runs, meter=meter.name)


@dataclass(frozen=True, kw_only=True)
class MeteredEnergy:
    """A table's energies scaled to a meter: joules per table joule of each cause, and per run.

    `held_out_mape` is the mean relative error on networks left out of the fit, one at a time.
    """

    table: Energy | None
    factors: tuple[float, float, float, float]
    held_out_mape: float
    meter: str

    def energy_j(self, work: Work) -> float:
        """Joules of one inference on the metered machine, without its idle power."""
        return float(_causes(work, self.table) @ np.asarray(self.factors))


def fit_energy(
    works: Sequence[Work], measured: Sequence[MeasuredEnergy], table: Energy | None = None
) -> MeteredEnergy:
    """The table fitted to metered networks: non-negative least squares on relative errors.

    Raises:
        MeterError: Fewer than four networks, or one without a positive energy.
    """
    joules = np.asarray([each.run_j for each in measured])
    if len(works) != len(joules) or len(works) < _LEAST_NETWORKS or (joules <= 0).any():
        raise MeterError(
            f"energy is fitted to {_LEAST_NETWORKS} or more networks, each above 0 J, got "
            f"{len(works)} networks and {list(joules)} J; measure more, or longer runs"
        )
    rows = np.stack([_causes(work, table) for work in works]) / joules[:, None]
    errors = []
    for left in range(len(rows)):
        factors = _fitted(np.delete(rows, left, axis=0))
        errors.append(abs(float(rows[left] @ factors) - 1))
    low = _fitted(rows)
    return MeteredEnergy(
        table=table,
        factors=(float(low[0]), float(low[1]), float(low[2]), float(low[3])),
        held_out_mape=float(np.mean(errors)),
        meter=measured[0].meter,
    )


def _fitted(rows: np.ndarray) -> np.ndarray:
    """Factors whose predictions over the measured energies come closest to one."""
    size = np.abs(rows).max(axis=0)
    size[size == 0] = 1.0
    found, _ = nnls(rows / size, np.ones(len(rows)))
    return np.asarray(found / size)


def _causes(work: Work, table: Energy | None) -> np.ndarray:
    parts = energy_parts(work, table)
    pj = (parts.arithmetic_pj, parts.on_chip_pj, parts.off_chip_pj)
    return np.asarray([*(_PICO * each for each in pj), 1.0])
