"""The search: from a config to a verified front. `run` and `load` are the whole Python face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paredown.spaces.system.telemetry import switch_off

if TYPE_CHECKING:
    from paredown.compressors.bundle.loading import load
    from paredown.search.running.whole_search import run

__all__ = ["load", "run"]

switch_off()


def __getattr__(name: str) -> Any:
    # Imported when first used: `paredown --help` and the config need neither torch nor Ray.
    if name == "run":
        from paredown.search.running.whole_search import run

        return run
    if name == "load":
        from paredown.compressors.bundle.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
