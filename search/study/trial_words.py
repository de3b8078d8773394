"""A candidate as a trial of the study: parameters by names and values that people know."""

from __future__ import annotations

from collections import Counter

from optuna.distributions import BaseDistribution, CategoricalDistribution

from paredown.search.study.display import Unit, unit_of
from paredown.search.study.evaluation import Evaluation
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space

Value = int | str


def trial_parameters(
    space: Space, candidate: Candidate
) -> tuple[dict[str, Value], dict[str, BaseDistribution]]:
    """What each open knob of the candidate's network is set to, and what it could be set to.

    Counts are numbers, all else is text as `paredown inspect` shows it. Empty for a candidate outside
    the space, as some references are.
    """
    if not space.contains(candidate):
        return {}, {}
    values: dict[str, Value] = {}
    domains: dict[str, BaseDistribution] = {}
    parameters = space.parameters(space.by_name[candidate.architecture])
    labels = Counter(knob.label for knob in parameters.values())
    positions = space.encode(candidate)
    for parameter, knob in parameters.items():
        position = positions.get(parameter)
        if position is None:
            continue
        # A label stands alone where no other knob has it, behind the network's name where it has one.
        own = f" ({knob.name})" if labels[knob.label] > 1 else ""
        name = f"{parameter.removesuffix(knob.name)}{knob.label}{own}"
        choices = [knob.plain(value) for value in knob.domain]
        values[name] = choices[position]
        domains[name] = CategoricalDistribution(choices)
    return values, domains


def goal_unit(metric: str) -> Unit:
    """One unit for all values of a metric: of seconds ms, of bytes kB, of joules mJ, of shares %."""
    scales = {"_s": 1e-3, "_bytes": 1e3, "_j": 1e-3, "macs": 1e6, "bops": 1e6}
    kind, _, _ = metric.partition("@")
    return unit_of(metric, next((v for end, v in scales.items() if kind.endswith(end)), 1.0))


def attributes_of(evaluation: Evaluation) -> dict[str, str]:
    """What a page that shows the study says of an evaluation beside its parameters and goals."""
    said = {
        "key": evaluation.key,
        "label": evaluation.label,
        "rung": evaluation.rung.text,
        "failed": evaluation.failure.text if evaluation.failure else "",
    }
    return {name: text for name, text in said.items() if text}
