"""What verifying one bundle found, as it is passed between processes, kept and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from paredown.spaces.system.json_values import Json


@dataclass(frozen=True, kw_only=True)
class BundleCheck:
    """What re-opening a bundle found, and the rules it breaks.

    `measured` holds `test_<metric>` through ONNX Runtime, `uncompressed_test_<metric>`, for means
    over samples `test_difference` with its `test_difference_error` (standard error of the paired
    difference), and costs by name; `kernels` the integer kernels of the runtime's graph; `predicted`
    is the card's, with `test_<metric>` as our own simulation gives it. Every mismatch starts with
    its rule: files, bytes, content, loading, parity, agreement, metric or kernels. `warnings` say
    what does not keep to a prediction and breaks no rule: a latency outside its 95 % interval.
    `unchecked` says what could not be checked, and why.
    """

    key: str
    folder: Path
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    mismatches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    kernels: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no rule is broken; warnings and unchecked items do not count."""
        return not self.mismatches

    @property
    def verdict(self) -> str:
        """One word for all of it: mismatch, partly checked, or verified."""
        if self.mismatches:
            return "mismatch"
        return "partly checked" if self.unchecked else "verified"

    def to_json(self) -> dict[str, Json]:
        """The same as plain values; `from_json` reads them back."""
        return asdict(self) | {"folder": str(self.folder), "ok": self.ok}

    @classmethod
    def from_json(cls, text: str) -> BundleCheck:
        """The check of which `to_json` gave the values of this JSON text.

        Raises:
            ValidationError: It is something else.
        """
        return TypeAdapter(cls).validate_json(text)
