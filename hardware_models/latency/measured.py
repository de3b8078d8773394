"""Latency that is measured: a candidate is exported and timed beside the uncompressed model.

Seconds of two moments do not compare (a shared machine drifts by several per cent within the
hour), ratios do. So a candidate is timed interleaved with the reference, and what it is said to
take is that ratio times the reference's seconds, which were settled once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paredown.hardware_models.latency.estimate import Estimate, Estimates
from paredown.hardware_models.latency.intervals import Ratio, bound_95, symmetric
from paredown.hardware_models.latency.models import Array, LatencyError
from paredown.hardware_models.timing.measure import Measured, fingerprint, measure_latencies
from paredown.hardware_models.work.workload import Work
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError, read_sealed, write_sealed

_log = logging.getLogger(__name__)

Export = Callable[[Work], bytes]
"""From a work to the bytes of its ONNX file."""
Timer = Callable[[Sequence[bytes], int], Sequence[Measured]]
"""From ONNX files and threads to their latencies, timed interleaved."""

_WIDEST_ERROR = 0.1
"""Interval where no repeated measurement said better: sessions of one model differ by less."""


def time_together(models: Sequence[bytes], threads: int) -> Sequence[Measured]:
    """Three sessions of each model, interleaved on this machine."""
    return measure_latencies(models, threads=threads, instances=3, blocks=15)


@dataclass(frozen=True, kw_only=True)
class MeasuredLatency:
    """Times every candidate it has not seen, and remembers it on disk.

    `folder` keeps one JSON file per model and machine. `reference_s` are the uncompressed model's
    seconds; `relative_error_95` and `held_out_mape` say how one measurement repeats another.
    """

    export: Export = field(compare=False)
    reference: bytes = field(repr=False)
    reference_s: float
    folder: Path
    threads: int = 1
    relative_error_95: float = _WIDEST_ERROR
    held_out_mape: float | None = None
    timer: Timer = field(default=time_together, compare=False)

    @property
    def source(self) -> str:
        """The machine's fingerprint and the uncompressed model's latency in seconds."""
        return (
            f"measured on {fingerprint(self.threads)}, "
            f"beside the uncompressed model at {self.reference_s:.6g} s"
        )

    def predict(self, work: Work) -> Estimate:
        """Measured latency of `work`, timed now if it never was.

        Raises:
            LatencyError: The work was made by hand, so there is nothing to export.
        """
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population; those never timed are timed together.

        Raises:
            LatencyError: As `predict`.
        """
        value_s = self.reference_s * self._ratios([_exported(work, self.export) for work in works])
        low_s, high_s = symmetric(value_s, self.relative_error_95)
        return Estimates(
            value_s=value_s,
            low_s=low_s,
            high_s=high_s,
            source=self.source,
            held_out_mape=self.held_out_mape,
        )

    def predict_ratio(self, work: Work, baseline: Work) -> Ratio:
        """Latency of `work` over that of `baseline`, each timed beside the uncompressed model.

        Raises:
            LatencyError: As `predict`.
        """
        over, under = self._ratios([_exported(each, self.export) for each in (work, baseline)])
        low, high = symmetric(np.array([over / under]), self.relative_error_95)
        return Ratio(float(over / under), float(low[0]), float(high[0]))

    def _ratios(self, models: Sequence[bytes]) -> Array:
        """Latency of each model over the reference's."""
        paths = [self._path(model) for model in models]
        known = {path: _kept_ratio(path) for path in paths}
        missing = {p: m for p, m in zip(paths, models, strict=True) if known[p] is None}
        if missing:
            base, *found = self.timer((self.reference, *missing.values()), self.threads)
            for path, measured in zip(missing, found, strict=True):
                known[path] = measured.mean_s / base.mean_s
                # Many processes share the folder; the last to write is as right as the first.
                write_sealed(path, {"ratio": known[path]})
        return np.array([known[path] for path in paths], dtype=np.float64)

    def _path(self, model: bytes) -> Path:
        digest = hashlib.blake2b(model, digest_size=16)
        digest.update(hashlib.blake2b(self.reference).digest())
        digest.update(fingerprint(self.threads).encode())
        return self.folder / f"{digest.hexdigest()}.json"

    def to_json(self) -> dict[str, Json]:
        """What to keep: the settled seconds and errors; models are exported again."""
        return {
            "kind": "measured",
            "fingerprint": fingerprint(self.threads),
            "threads": self.threads,
            "reference_s": self.reference_s,
            "folder": str(self.folder),
            "relative_error_95": self.relative_error_95,
            "held_out_mape": self.held_out_mape,
        }

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        *,
        export: Export,
        reference: Work,
        timer: Timer = time_together,
    ) -> MeasuredLatency:
        """The model that `to_json` wrote, with what JSON cannot hold.

        Raises:
            LatencyError: It was measured on another machine, or with another runtime.
        """
        here = fingerprint(int(data["threads"]))
        if data["fingerprint"] != here:
            raise LatencyError(
                f"measured latencies hold for one machine, these for {data['fingerprint']}, "
                f"and this is {here}; start a new run"
            )
        return cls(
            export=export,
            reference=_exported(reference, export),
            reference_s=float(data["reference_s"]),
            folder=Path(data["folder"]),
            threads=int(data["threads"]),
            relative_error_95=float(data["relative_error_95"]),
            held_out_mape=data["held_out_mape"],
            timer=timer,
        )


def start_measuring(
    export: Export,
    reference: Work,
    others: Sequence[Work],
    folder: Path,
    *,
    threads: int = 1,
    timer: Timer = time_together,
) -> MeasuredLatency:
    """A measuring model with its reference settled and its repeatability measured.

    The reference and `others` are timed twice, each time in sessions of their own; how the ratios
    of the second time differ from those of the first gives the interval (conformal from 20 others
    on) and the error.

    Raises:
        LatencyError: A work was made by hand, so there is nothing to export.
    """
    models = [_exported(work, export) for work in (reference, *others)]
    first, second = (timer(models, threads) for _ in range(2))
    errors = np.array(
        [
            abs((b.mean_s / second[0].mean_s) / (a.mean_s / first[0].mean_s) - 1)
            for a, b in zip(first[1:], second[1:], strict=True)
        ]
    )
    return MeasuredLatency(
        export=export,
        reference=models[0],
        reference_s=(first[0].mean_s + second[0].mean_s) / 2,
        folder=folder,
        threads=threads,
        relative_error_95=bound_95(errors, max(_WIDEST_ERROR, *errors, 0.0)),
        held_out_mape=float(errors.mean()) if len(errors) else None,
        timer=timer,
    )


def _exported(work: Work, export: Export) -> bytes:
    if work.blueprint is None:
        raise LatencyError(
            "only works read from a blueprint can be measured, got one made by hand; "
            "use read_work, or a model that predicts"
        )
    return export(work)


def _kept_ratio(path: Path) -> float | None:
    """The ratio that was kept at `path`; None where there is none, or the file is damaged."""
    try:
        ratio = read_sealed(path, needs_digest=True)["ratio"]
        return ratio if isinstance(ratio, float) else None
    except FileNotFoundError:
        return None
    except (OSError, DamagedFileError) as error:
        _log.warning("%s is damaged (%s); its model is timed again", path, error)
        return None
