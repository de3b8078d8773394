"""How well predicted latencies agree with measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Agreement on networks a model had not seen; errors are relative to the measured latency.

    `mape` is the mean error, `error_95` its 95 % quantile, `spearman` the rank correlation;
    `pairs_ordered` is the share of pairs that differ by 10 % and more in the measured latency and
    are ordered right (None: there is no such pair).
    """

    networks: int
    mape: float
    error_95: float
    spearman: float
    pairs_ordered: float | None


def accuracy(predicted_s: Sequence[float], measured_s: Sequence[float]) -> Accuracy:
    """The agreement of predictions (networks,) with measurements in the same order."""
    predicted = np.asarray(predicted_s, dtype=np.float64)
    measured = np.asarray(measured_s, dtype=np.float64)
    errors = np.abs(predicted / measured - 1)
    first, second = np.triu_indices(len(measured), k=1)
    ratio = measured[first] / measured[second]
    apart = np.maximum(ratio, 1 / ratio) >= 1.1
    right = np.sign(predicted[first] - predicted[second]) == np.sign(np.log(ratio))
    return Accuracy(
        networks=len(measured),
        mape=float(errors.mean()),
        error_95=float(np.quantile(errors, 0.95)),
        spearman=float(spearmanr(predicted, measured).statistic),
        pairs_ordered=float(right[apart].mean()) if apart.any() else None,
    )
