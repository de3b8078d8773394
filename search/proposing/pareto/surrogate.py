"""Quality lost by a compressed model, predicted from damages of its decisions, with an honest deviation.

Damages predicted in nats are right in rank within a kind of decision (layers, widths, blocks) and wrong
by a factor between kinds; what they leave out differs from target to target, and decisions interact. A
Gaussian process says so: its prior mean is a sum of damages with one factor a kind, and its kernel has a
term for a kind's factor, one for each target's own, and one for interactions, near for candidates of like
decisions. Factors and amplitudes maximise the posterior (Rasmussen & Williams 2006, chapter 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

_FACTORS: Mapping[str, float] = {"layer": 0.5, "width": 3.0, "drop": 4.0, "activations": 0.02}
"""Nats of loss that a nat of predicted damage costs, by kind: what refitting mends of bits it does not of
missing channels (ResNet-20; the uncertainty below is a factor of three). Activations count in shares."""
_OTHER_FACTOR = 1.0
_SLACK_NATS = 0.3
"""Nats of loss that cost a quality its margin: ten points of accuracy."""
_KIND, _TARGET, _INTERACTION, _REACH, _NOISE = 0.3, 0.8, 0.6, 0.5, 0.04
"""Prior medians: departures of a kind's factor and of a target's own, as shares; the amplitude of
interactions as a share; the distance they reach, in roots of the margin; noise of a score, in margins."""
_AMPLITUDES = 4
"""Target, interaction, reach, noise."""
_FACTOR_SPREAD, _OWN_SPREAD = 1.0, 0.3
"""Prior deviations of the logarithms of factors, and of amplitudes."""
_PROPORTIONAL, _BEYOND = 0.1, 0.5
"""Parts of a loss, and of what it is beyond the margin, by which no sum of parts is to be believed."""
_JITTER = 1e-9


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A posterior over quality lost, in units of the quality; smaller is better, 0 is uncompressed.

    Attributes:
        kinds: The kind of decision of each of the p columns of damages.
        slack: How much of the quality may be lost to count: the unit that all is measured in.
        logs: Logarithms of the factors of kinds, and of target, interaction, reach and noise.
        damages: (n, p) of the candidates learned from.
        lost: (n,) by them, in units of `slack`.
    """

    kinds: tuple[str, ...]
    slack: float
    logs: Array
    damages: Array
    lost: Array
    _member: Array = field(repr=False)
    _solved: Array = field(repr=False)
    _factor: tuple[Array, bool] = field(repr=False)

    @classmethod
    def prior(cls, kinds: Sequence[str], slack: float) -> Surrogate:
        """What is believed before anything is evaluated."""
        names = tuple(kinds)
        distinct = list(dict.fromkeys(names))
        factors = [_FACTORS.get(kind, _OTHER_FACTOR) / _SLACK_NATS for kind in distinct]
        logs = np.log([*factors, _TARGET, _INTERACTION, _REACH, _NOISE])
        none = np.zeros((0, len(names)))
        empty = np.zeros(0)
        return cls(
            kinds=names,
            slack=slack,
            logs=logs,
            damages=none,
            lost=empty,
            _member=np.array([[kind == each for each in distinct] for kind in names], float),
            _solved=empty,
            _factor=(np.zeros((0, 0)), True),
        )

    def learning(self, damages: Array, lost: Array, refit: bool = True) -> Surrogate:
        """The posterior after all these candidates, earlier ones included.

        Args:
            damages: (n, p), never negative.
            lost: (n,) as scored.
            refit: Whether factors and amplitudes are learned anew, or stay as they are.
        """
        model = replace(self, damages=damages, lost=lost / self.slack)
        if len(lost) == 0:
            return model
        logs = model._refitted(self.prior(self.kinds, self.slack).logs) if refit else self.logs
        return replace(model, logs=logs)._conditioned()

    def predict(self, damages: Array) -> tuple[Array, Array]:
        """Mean and deviation (m,) of the quality lost, as it is and not as a noisy score shows it."""
        mean = damages @ self._weights
        own = self._own_variance(damages)
        if len(self.lost) == 0:
            return self.slack * mean, self.slack * np.sqrt(own)
        across = self._kernel(damages, self.damages)
        mean = mean + across @ self._solved
        roots = solve_triangular(self._factor[0], across.T, lower=True, check_finite=False)
        left = own - np.einsum("nm,nm->m", roots, roots)
        return self.slack * mean, self.slack * np.sqrt(np.maximum(left, _JITTER))

    def difference(self, damages: Array, others: Array) -> tuple[Array, Array]:
        """Mean and deviation (m,) of the quality that `damages` lose, row by row, and `others` do not.

        What is not known of both alike cancels: far less than the deviations of the two added up.
        """
        mean = (damages - others) @ self._weights
        shared = np.diag(self._kernel(damages, others))
        left = self._own_variance(damages) + self._own_variance(others) - 2 * shared
        if len(self.lost):
            across = self._kernel(damages, self.damages) - self._kernel(others, self.damages)
            mean = mean + across @ self._solved
            roots = solve_triangular(self._factor[0], across.T, lower=True, check_finite=False)
            left = left - np.einsum("nm,nm->m", roots, roots)
        return self.slack * mean, self.slack * np.sqrt(np.maximum(left, _JITTER))

    def of_scores(self, mean: Array, deviation: Array) -> Array:
        """Deviation (m,) of scores around `mean`, where that of the quality itself is `deviation`."""
        noise = self.slack * np.exp(self.logs[-1])
        return np.asarray(np.sqrt(deviation**2 + noise**2 + (_PROPORTIONAL * mean) ** 2))

    @property
    def _weights(self) -> Array:
        """Factor (p,) of each column, in margins per unit of damage."""
        return np.asarray(self._member @ np.exp(self.logs[:-_AMPLITUDES]))

    def _kernel(self, one: Array, other: Array) -> Array:
        """Prior covariances (n, m) of quality lost, in margins squared."""
        target, interaction, reach = np.exp(self.logs[-4:-1])
        a, b = one * self._weights, other * self._weights
        linear = target**2 * a @ b.T + _KIND**2 * (a @ self._member) @ (b @ self._member).T
        total_a, total_b = a.sum(axis=1), b.sum(axis=1)
        apart = total_a[:, None] + total_b[None] - 2 * np.sqrt(a) @ np.sqrt(b).T
        near = np.exp(-0.5 * np.maximum(apart, 0.0) / reach**2)
        return np.asarray(linear + interaction**2 * np.sqrt(np.outer(total_a, total_b)) * near)

    def _own_variance(self, damages: Array) -> Array:
        target, interaction = np.exp(self.logs[-4:-2])
        a = damages * self._weights
        linear = target**2 * (a**2).sum(axis=1) + _KIND**2 * ((a @ self._member) ** 2).sum(axis=1)
        return np.asarray(linear + interaction**2 * a.sum(axis=1))

    def _noisy_kernel(self) -> Array:
        beyond = np.maximum(self.lost - 1.0, 0.0)
        off = (_PROPORTIONAL * self.lost) ** 2 + (_BEYOND * beyond) ** 2
        kernel = self._kernel(self.damages, self.damages)
        kernel[np.diag_indices(len(kernel))] += np.exp(2 * self.logs[-1]) + off + _JITTER
        return kernel

    def _conditioned(self) -> Surrogate:
        factor = cho_factor(self._noisy_kernel(), lower=True)
        solved = cho_solve(factor, self.lost - self.damages @ self._weights)
        return replace(self, _factor=factor, _solved=solved)

    def _refitted(self, prior: Array) -> Array:
        """Logarithms that are most probable a posteriori."""
        spread = np.full(len(prior), _OWN_SPREAD)
        spread[:-_AMPLITUDES] = _FACTOR_SPREAD

        def _loss(logs: Array) -> float:
            model = replace(self, logs=logs)
            try:
                factor = cho_factor(model._noisy_kernel(), lower=True)
            except LinAlgError:
                return 1e12
            off = self.lost - self.damages @ model._weights
            fit = 0.5 * off @ cho_solve(factor, off) + np.log(np.diag(factor[0])).sum()
            return float(fit + 0.5 * (((logs - prior) / spread) ** 2).sum())

        found = minimize(_loss, self.logs, method="L-BFGS-B", options={"maxiter": 15})
        return np.asarray(found.x)
