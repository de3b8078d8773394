"""What verifying one bundle found, as a run keeps and shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class BundleCheck:
    """What verifying one bundle found: metrics predicted and measured, and rules broken.

    `warnings` say what does not keep to a prediction (a latency outside its interval), `unchecked`
    which rules could not be checked, and why; `kernels` counts the runtime's integer kernels.
    """

    key: str
    folder: str
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    mismatches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    kernels: Mapping[str, int] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One word for all of it: mismatch, partly checked, or verified."""
        if self.mismatches:
            return "mismatch"
        return "partly checked" if self.unchecked else "verified"
