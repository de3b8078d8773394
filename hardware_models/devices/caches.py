"""The sizes of this machine's caches, as Linux reports them.

A preset is measured on one machine of its class; of another, the level of memory that a network's weights
lie in depends on that machine's own caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def cache_bytes(folder: Path = _CPU) -> Mapping[str, int]:
    """Bytes of each unified cache, "L2" and "L3"; empty where the system does not report them.

    The first level is split into data and instructions, and no network fits into it.
    """
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index*")):
        kind, level, size = (_text(index / name) for name in ("type", "level", "size"))
        if kind == "Unified" and level.isdigit() and size[:-1].isdigit() and size[-1] in _UNITS:
            found[f"L{level}"] = int(size[:-1]) * _UNITS[size[-1]]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:  # virtual machines leave out what they do not know
        return ""
