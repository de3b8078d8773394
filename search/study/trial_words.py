"""A candidate as a trial of the study: parameters by names and values that people know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from optuna.distributions import BaseDistribution, CategoricalDistribution

from paredown.search.study.display import Unit, unit_of, value_text
from paredown.search.study.evaluation import Evaluation
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.knobs import KnobKind
from paredown.spaces.candidates.space import ARCHITECTURE, Architecture, Knob, Space

_NAMES: Mapping[KnobKind, str] = {
    "weight_bits": "weight bits",
    "sparsity": "zeros",
    "rank_fraction": "rank",
    "method": "method",
    "group_size": "inputs per scale",
    "segment": "activations",
    "width": "channels",
    "drop": "block",
}

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
    if len(space.architectures) > 1:
        values[ARCHITECTURE] = candidate.architecture
        domains[ARCHITECTURE] = CategoricalDistribution([a.name for a in space.architectures])
    architecture = space.by_name[candidate.architecture]
    positions = space.encode(candidate)
    for knob, name in _named(architecture):
        # The same key as the space's own parameter, which stands at 0 where it was never sampled.
        position = positions.get(space.parameter(architecture, knob))
        if position is not None:
            choices = [_value(knob, value) for value in knob.domain]
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


def _named(architecture: Architecture) -> list[tuple[Knob, str]]:
    """Every knob with a name that no other has: "conv1: weight bits"."""
    names = [_name(knob) for knob in architecture.knobs]
    count = Counter(names)
    prefix = f"{architecture.name}/" if architecture.name else ""
    return [
        (knob, prefix + (name if count[name] == 1 else f"{name} ({knob.name})"))
        for knob, name in zip(architecture.knobs, names, strict=True)
    ]


def _name(knob: Knob) -> str:
    first, *others = knob.targets
    tied = f" and {len(others)} tied to it" if others else ""
    return f"{first}{tied}: {_NAMES[knob.kind]}"


def _value(knob: Knob, value: object) -> Value:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return value_text(knob, value)
