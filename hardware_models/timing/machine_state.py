"""What may spoil a measurement on this machine: load, shared cores, a changing clock."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_BUSY = 0.3
"""Load per core above which other work is seen in single blocks."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """The state of the machine; None where the system does not report it.

    `load` is the number of runnable processes over the last minute, `cores_per_sibling` how many
    logical cores share one physical core, `governor` the policy of the clock.
    """

    cores: int
    load: float | None
    cores_per_sibling: int | None
    governor: str | None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the measurement should know, a sentence each."""
        found = []
        if self.load is not None and self.load > _BUSY * self.cores:
            found.append(
                f"other work runs here (load {self.load:.1f} on {self.cores} cores): "
                "times are upper bounds, ratios hold"
            )
        if self.cores_per_sibling is not None and self.cores_per_sibling > 1:
            found.append("logical cores share a physical one: work on the other half slows this")
        if self.governor not in (None, "performance"):
            found.append(f"the clock follows the load (governor {self.governor})")
        return tuple(found)


def preflight(system: Path = _CPUS) -> Preflight:
    """The state of this machine.

    Args:
        system: Folder in the layout of Linux's /sys/devices/system/cpu.
    """
    siblings = _text(system / "cpu0/topology/thread_siblings_list")
    return Preflight(
        cores=os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        cores_per_sibling=None if siblings is None else _count(siblings),
        governor=_text(system / "cpu0/cpufreq/scaling_governor"),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _count(cores: str) -> int:
    """How many cores a list such as "0,4-5" names."""
    total = 0
    for part in cores.split(","):
        low, _, high = part.partition("-")
        total += int(high or low) - int(low) + 1
    return total
