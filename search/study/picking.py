"""Picking one model from a front by a sentence: "latency <= 2ms, onnx_bytes <= 25%, max accuracy"."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paredown.search.config.qualities import Direction
from paredown.search.study.display import units_of
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.spaces.system.errors import ParedownError

_METRIC = r"[A-Za-z_]\w*(?:@[\w.-]+)?"
_CONDITION = re.compile(
    rf"({_METRIC})\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\W\d_]*|%)"
)
_AIM = re.compile(rf"(max|min)\s+({_METRIC})")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_EXAMPLE = '"latency <= 2ms, onnx_bytes <= 25%, max accuracy"'


class PickError(ParedownError):
    """A pick that cannot be read, names an unknown metric or that no evaluation satisfies."""


@dataclass(frozen=True, kw_only=True)
class _Condition:
    text: str
    metric: str
    sign: str
    limit: float

    def is_met(self, evaluation: Evaluation) -> bool:
        """Whether the evaluation satisfies it."""
        return _COMPARE[self.sign](evaluation.metrics[self.metric], self.limit)

    def violation(self, evaluation: Evaluation) -> float:
        """How far off, as a share of the limit; 0 where the condition is met."""
        if self.is_met(evaluation):
            return 0.0
        return abs(evaluation.metrics[self.metric] - self.limit) / max(abs(self.limit), 1e-12)


def pick(
    evaluations: Sequence[Evaluation],
    expression: str,
    goals: Sequence[Goal],
    uncompressed: Evaluation | None = None,
) -> Evaluation:
    """The evaluation that `expression` asks for; the first to arrive among equals.

    The expression is a comma-separated list of conditions and at most one aim: `metric <= number`
    (also >=, <, >) in SI units or with a unit (kB is 1,000 bytes, KiB 1,024), `metric <= 0.25x` or,
    of a cost, `metric <= 25%` relative to `uncompressed`, and `max metric` or `min metric`. Of a
    quality, 98% is 0.98. Without an aim the first of `goals` decides. `latency` stands for
    `latency_s`, as the unit at the end of a name may be left out.

    Raises:
        PickError: The expression cannot be read, or nothing satisfies it.
    """
    if not evaluations:
        raise PickError("picking needs a front with at least one model, got none; search longer")
    known = sorted(set.intersection(*(set(e.metrics) for e in evaluations)))
    conditions, aim = _parse(expression, known, goals, uncompressed)
    fitting = [e for e in evaluations if all(c.is_met(e) for c in conditions)]
    if not fitting:
        closest = min(evaluations, key=lambda e: sum(c.violation(e) for c in conditions))
        values = ", ".join(f"{c.metric} {closest.metrics[c.metric]:.6g}" for c in conditions)
        raise PickError(
            f"no model on the front satisfies {', '.join(repr(c.text) for c in conditions)}; "
            f"the closest is {closest.key} with {values}: loosen the condition"
        )
    return min(fitting, key=lambda e: aim.loss(e.metrics[aim.metric]))


def _parse(
    expression: str,
    known: Sequence[str],
    goals: Sequence[Goal],
    uncompressed: Evaluation | None,
) -> tuple[tuple[_Condition, ...], Goal]:
    conditions, aims = [], []
    for term in filter(None, (part.strip() for part in expression.split(","))):
        if aim := _AIM.fullmatch(term):
            direction: Direction = "maximize" if aim[1] == "max" else "minimize"
            aims.append(Goal(metric=_metric(aim[2], known), direction=direction))
        elif found := _CONDITION.fullmatch(term):
            conditions.append(_condition(term, found, known, uncompressed))
        else:
            raise PickError(
                f"a term of a pick is 'metric <= number' or 'max metric', got {term!r}; write it "
                f"like {_EXAMPLE}"
            )
    if len(aims) > 1 or not (conditions or aims):
        raise PickError(
            f"a pick has conditions, or one 'max metric' or 'min metric', got {len(aims)} of these "
            f"in {expression!r}; write it like {_EXAMPLE}"
        )
    return tuple(conditions), aims[0] if aims else goals[0]


def _condition(
    text: str, found: re.Match[str], known: Sequence[str], uncompressed: Evaluation | None
) -> _Condition:
    metric, number, unit = _metric(found[1], known), float(found[3]), found[4]
    is_share = Goal(metric=metric, direction="minimize").is_cost and unit == "%"
    if unit.lower() == "x" or is_share:
        if uncompressed is None or metric not in uncompressed.metrics:
            raise PickError(
                f"a limit in x or % is relative to the uncompressed model, which has no {metric} "
                f"here, got {text!r}; give the limit as a plain number"
            )
        limit = number * uncompressed.metrics[metric] * (0.01 if is_share else 1)
    else:
        limit = number * _size(unit, metric, text)
    return _Condition(text=text, metric=metric, sign=found[2], limit=limit)


def _size(unit: str, metric: str, text: str) -> float:
    """What one `unit` of `metric` is in SI."""
    sizes = {**units_of(metric), "": 1.0, "%": 0.01}
    if unit in sizes:
        return sizes[unit]
    same = [name for name in sizes if name and name.lower() == unit.lower()]
    named = [name for name in sizes if name]
    hint = f"did you mean {same[0]}?" if same else f"known here: {', '.join([*named, 'x'])}"
    raise PickError(f"{unit!r} is no unit of {metric}, got {text!r}; {hint}")


def _metric(name: str, known: Sequence[str]) -> str:
    """The metric that `name` means: itself, or without the unit at its end."""
    if name in known:
        return name
    kind, at, device = name.partition("@")
    meant = [f"{kind}_{ending}{at}{device}" for ending in ("s", "bytes", "j")]
    short = [each for each in meant if each in known]
    if len(short) == 1:
        return short[0]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? Known are" if close else "known are"
    raise PickError(f"a pick names metrics of the front, got {name!r}; {hint} {', '.join(known)}")
