"""What networks took, checked before a latency model is fitted to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paredown.hardware_models.work.workload import Work
from paredown.spaces.system.errors import ParedownError

Array = NDArray[np.float64]


class CalibrationError(ParedownError):
    """Measurements that no latency model can be fitted to."""


def both_times(
    works: Sequence[Work],
    measured_s: Sequence[float],
    again_s: Sequence[float] | None,
    fewest: int,
) -> tuple[Array, Array, Array | None]:
    """Latencies (networks,) of the first time, of both on average, and of the second, if there is one.

    Raises:
        CalibrationError: As `check_measurements`.
    """
    first = np.asarray(measured_s, dtype=np.float64)
    check_measurements(len(works), first, fewest)
    if again_s is None:
        return first, first, None
    again = np.asarray(again_s, dtype=np.float64)
    check_measurements(len(works), again, fewest)
    return first, (first + again) / 2, again


def check_measurements(networks: int, times_s: Array, fewest: int) -> None:
    """Nothing, if a model can be fitted to these measurements.

    Raises:
        CalibrationError: It cannot.
    """
    if networks != len(times_s):
        raise CalibrationError(
            f"every network needs one latency, got {networks} networks and "
            f"{len(times_s)} latencies; pass one for each"
        )
    if networks < fewest:
        raise CalibrationError(
            f"this fit needs at least {fewest} measured networks, got {networks}; "
            "measure more candidates"
        )
    if not np.all(np.isfinite(times_s)) or np.any(times_s <= 0):
        raise CalibrationError("measured latencies must be finite and above zero; measure again")
