"""Quality predicted from what the layers say: K-FAC damages with factors learned as results come in.

A candidate's predicted damage is a sum over its decisions, which is right in rank
and wrong in size. Bayesian linear regression learns one factor for each kind of decision and a
departure from it for each target, and knows how sure it is of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.predicted_damage import DamagePredictor
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.structure.model_map import Block

_KIND_DEVIATION = 1.0
_TARGET_DEVIATION = 0.7
"""Prior deviations of the factor of a kind, and of a target from its kind, in common factors."""
_ONE_DECISION = 0.01
"""Prior deviation of what no damage predicts (8-bit activations), in qualities per unit."""
_PROPORTIONAL_ERROR = 0.3
"""Additivity fails in proportion: rows of large damage say less about single decisions."""
_PASSES = 3

Terms = Mapping[str, float]
"""Damage in nats by decision, as "kind:architecture/target"."""


class DamageTerms:
    """Reads candidates' terms, each decision's damage predicted once; no layer is solved for it."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = databases
        self._predictors = {name: DamagePredictor(each) for name, each in databases.items()}
        self._layers: dict[tuple[str, str, LayerChoice], float] = {}
        self._widths: dict[tuple[str, str], list[float]] = {}
        self._drops: dict[tuple[str, str], float] = {}

    def of(self, candidate: Candidate) -> dict[str, float]:
        """The terms of `candidate`; decisions at their identity have none."""
        name = candidate.architecture
        model_map = self._databases[name].model_map
        blocks = [b for b in model_map.blocks if b.name in candidate.dropped]
        gone = {layer for block in blocks for layer in block.layers}
        found = {f"architecture:{name}": 1.0}
        for layer, choice in candidate.layers:
            if layer not in gone and not choice.is_identity:
                found[f"layer:{name}/{layer}"] = self.layer(name, layer, choice)
        for group, width in candidate.widths:
            found[f"width:{name}/{group}"] = self.width(name, group, width)
        for block in blocks:
            found[f"drop:{name}/{block.name}"] = self.drop(name, block)
        short = Counter(c.ranges for _, c in candidate.segments if c.activation_bits == 8)
        for ranges, count in short.items():
            found[f"activations:{name}/{ranges}"] = count / len(model_map.segments)
        return found

    def layer(self, architecture: str, name: str, choice: LayerChoice) -> float:
        """Damage of one layer's choice."""
        key = (architecture, name, choice)
        if key not in self._layers:
            layer = self._databases[architecture].model_map.layer_by_name[name]
            self._layers[key] = self._predictors[architecture].layer(layer, choice)
        return self._layers[key]

    def width(self, architecture: str, group: str, width: int) -> float:
        """Damage of a narrower group, counted where its channels are missed."""
        key = (architecture, group)
        if key not in self._widths:
            self._widths[key] = self._predictors[architecture].widths(group).tolist()
        return self._widths[key][width]

    def drop(self, architecture: str, block: Block) -> float:
        """Damage of a skipped block, as if its last layer gave only its mean."""
        key = (architecture, block.name)
        if key not in self._drops:
            model_map = self._databases[architecture].model_map
            last = max(block.layers, key=[layer.name for layer in model_map.layers].index)
            layer = model_map.layer_by_name[last]
            self._drops[key] = self._predictors[architecture].silenced(layer)
        return self._drops[key]


@dataclass(frozen=True, kw_only=True)
class QualityModel:
    """Posterior of what terms cost in a quality: smaller is better, zero for the uncompressed model.

    `factors` (p,) and `covariance` (p, p) are those of the columns `names`; `common` is the one
    factor that fits all damage best, the prior mean of every kind; `noise` the deviation of a score.
    """

    names: tuple[str, ...]
    factors: np.ndarray
    covariance: np.ndarray
    common: float
    noise: float

    def predict(self, terms: Sequence[Terms]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (n,) of the quality lost by candidates of such terms."""
        rows, unseen = _design(terms, self.names)
        deviation = np.sqrt(np.einsum("np,pq,nq->n", rows, self.covariance, rows))
        # A target that was never compressed departs from its kind by nobody knows how much.
        surprise = _TARGET_DEVIATION * self.common * unseen
        mean = rows @ self.factors
        return mean, np.sqrt(deviation**2 + surprise**2 + (_PROPORTIONAL_ERROR * mean / 2) ** 2)

    def weigh(self, terms: Sequence[Terms], lost: np.ndarray) -> np.ndarray:
        """Posterior means (n,) of qualities whose noisy scores say that `lost` (n,) is lost."""
        mean, deviation = self.predict(terms)
        share = deviation**2 / (deviation**2 + self.noise**2)
        return np.asarray(mean + share * (lost - mean))

    def draw(self, generator: np.random.Generator) -> Mapping[str, float]:
        """Factors by column, drawn from the posterior; none below zero."""
        drawn = generator.multivariate_normal(self.factors, self.covariance, method="cholesky")
        return dict(zip(self.names, np.maximum(drawn, 0.0).tolist(), strict=True))


def fit_quality(terms: Sequence[Terms], lost: ArrayLike, base: str) -> QualityModel | None:
    """The model that explains the quality `lost` by candidates; None while there is no damage to see.

    Args:
        base: The reference architecture: its offset is zero by definition.
    """
    values = np.asarray(lost, dtype=float)
    names = _columns(terms, base)
    rows, _ = _design(terms, names)
    damage = np.array([sum(v for k, v in t.items() if is_damage(k)) for t in terms])
    near = damage <= np.quantile(damage, 0.75) if len(damage) else damage
    if not (damage > 0).any():
        return None
    offsets = rows[:, [i for i, name in enumerate(names) if name.startswith("architecture:")]]
    design = np.column_stack([damage, offsets])[near]
    common = max(float(np.linalg.lstsq(design, values[near], rcond=None)[0][0]), 1e-3)
    prior_mean, prior_deviation = _prior(names, common, float(np.abs(values).max()))
    noise = max(float(np.std(values)) * 0.1, 1e-6)
    factors, covariance = prior_mean, np.diag(prior_deviation**2)
    for _ in range(_PASSES):
        spread = noise + _PROPORTIONAL_ERROR * np.maximum(np.abs(values), common * damage)
        weighted = rows / spread[:, None]
        precision = np.diag(prior_deviation**-2.0) + weighted.T @ weighted
        covariance = np.linalg.inv(precision)
        right = prior_mean / prior_deviation**2 + weighted.T @ (values / spread)
        factors = covariance @ right
        residual = np.abs(values - rows @ factors)[near]
        noise = max(1.4826 * float(np.median(residual)), 1e-6)
    return QualityModel(
        names=names, factors=factors, covariance=covariance, common=common, noise=noise
    )


def is_damage(name: str) -> bool:
    """Whether a term is a damage in nats, and no count of what damage does not predict."""
    return name.split(":")[0] in ("layer", "width", "drop")


def _columns(terms: Sequence[Terms], base: str) -> tuple[str, ...]:
    seen = dict.fromkeys(name for each in terms for name in each)
    seen.pop(f"architecture:{base}", None)
    return ("layer", "width", "drop", *seen)


def _design(terms: Sequence[Terms], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Columns (n, p) of `names`, and the damage (n,) of targets that have no column."""
    place = {name: i for i, name in enumerate(names)}
    rows = np.zeros((len(terms), len(names)))
    unseen = np.zeros(len(terms))
    for row, each in enumerate(terms):
        for name, value in each.items():
            if is_damage(name):
                rows[row, place[name.split(":")[0]]] += value
            if name in place:
                rows[row, place[name]] += value
            elif is_damage(name):
                unseen[row] = np.hypot(unseen[row], value)
    return rows, unseen


def _prior(names: Sequence[str], common: float, largest: float) -> tuple[np.ndarray, np.ndarray]:
    mean = np.zeros(len(names))
    deviation = np.empty(len(names))
    for i, name in enumerate(names):
        if name in ("layer", "width", "drop"):
            mean[i], deviation[i] = common, _KIND_DEVIATION * common
        elif is_damage(name):
            deviation[i] = _TARGET_DEVIATION * common
        elif name.startswith("activations:"):
            deviation[i] = max(_ONE_DECISION, 0.1 * largest)
        else:
            deviation[i] = max(10 * _ONE_DECISION, largest)
    return mean, deviation
