"""Picking one model from a front by a sentence: "latency_s <= 0.002, max accuracy"."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paredown.search.evaluation import Evaluation

_CONDITION = re.compile(
    r"(\w+(?:@[\w.-]+)?)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(x?)"
)
_AIM = re.compile(r"(max|min)\s+(\w+(?:@[\w.-]+)?)")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_EXAMPLE = '"latency_s <= 0.002, onnx_bytes <= 0.25x, max accuracy"'


class PickError(ValueError):
    """A pick that cannot be read, names an unknown metric or that no evaluation satisfies."""


@dataclass(frozen=True, kw_only=True)
class _Condition:
    text: str
    metric: str
    sign: str
    limit: float

    def is_met(self, evaluation: Evaluation) -> bool:
        return _COMPARE[self.sign](evaluation.metrics[self.metric], self.limit)

    def violation(self, evaluation: Evaluation) -> float:
        """How far off, as a share of the limit; 0 where the condition is met."""
        if self.is_met(evaluation):
            return 0.0
        return abs(evaluation.metrics[self.metric] - self.limit) / max(abs(self.limit), 1e-12)


def pick(
    evaluations: Sequence[Evaluation], expression: str, uncompressed: Evaluation | None = None
) -> Evaluation:
    """The evaluation that `expression` asks for; the first to arrive among equals.

    The expression is a comma-separated list of conditions and exactly one aim: `metric <= number`
    (also >=, <, >) in SI units, `metric <= 0.25x` relative to `uncompressed`, and `max metric` or
    `min metric`.

    Raises:
        PickError: The expression cannot be read, or nothing satisfies it.
    """
    if not evaluations:
        raise PickError("picking needs a front with at least one model, got none; search longer")
    conditions, (goal, aim) = _parse(expression, evaluations, uncompressed)
    fitting = [e for e in evaluations if all(c.is_met(e) for c in conditions)]
    if not fitting:
        closest = min(evaluations, key=lambda e: sum(c.violation(e) for c in conditions))
        values = ", ".join(f"{c.metric} {closest.metrics[c.metric]:.6g}" for c in conditions)
        raise PickError(
            f"no model on the front satisfies {', '.join(repr(c.text) for c in conditions)}; "
            f"the closest is {closest.key} with {values}: loosen the condition"
        )
    sign = -1.0 if goal == "max" else 1.0
    return min(fitting, key=lambda e: sign * e.metrics[aim])


def _parse(
    expression: str, evaluations: Sequence[Evaluation], uncompressed: Evaluation | None
) -> tuple[tuple[_Condition, ...], tuple[str, str]]:
    known = set.intersection(*(set(e.metrics) for e in evaluations))
    conditions, aims = [], []
    for term in filter(None, (part.strip() for part in expression.split(","))):
        if aim := _AIM.fullmatch(term):
            _require_known(aim[2], known)
            aims.append((aim[1], aim[2]))
        elif found := _CONDITION.fullmatch(term):
            _require_known(found[1], known)
            conditions.append(_condition(term, found, uncompressed))
        else:
            raise PickError(
                f"a term of a pick is 'metric <= number' (seconds, bytes, shares in [0, 1]) or "
                f"'max metric', got {term!r}; write it like {_EXAMPLE}"
            )
    if len(aims) != 1:
        raise PickError(
            f"a pick has exactly one 'max metric' or 'min metric', got {len(aims)} in "
            f"{expression!r}; write it like {_EXAMPLE}"
        )
    return tuple(conditions), aims[0]


def _condition(text: str, found: re.Match[str], uncompressed: Evaluation | None) -> _Condition:
    try:
        limit = float(found[3])
    except ValueError:
        raise PickError(
            f"a limit is a number, got {found[3]!r} in {text!r}; write 0.002"
        ) from None
    if found[4]:
        if uncompressed is None or found[1] not in uncompressed.metrics:
            raise PickError(
                f"a limit in x is relative to the uncompressed model, which has no {found[1]} "
                f"here, got {text!r}; give the limit as a plain number"
            )
        limit *= uncompressed.metrics[found[1]]
    return _Condition(text=text, metric=found[1], sign=found[2], limit=limit)


def _require_known(metric: str, known: set[str]) -> None:
    if metric not in known:
        raise PickError(
            f"a pick names metrics of the front, got {metric!r}; known are "
            f"{', '.join(sorted(known))}"
        )
