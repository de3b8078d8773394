"""Rules that would silently do nothing: names that match no part of a network, settings that mean nothing
alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from paredown.search.config.schema_space import LayerRule, Rule
from paredown.spaces.candidates.factors import is_factorizable
from paredown.spaces.structure.model_map import Layer, ModelMap
from paredown.spaces.system.errors import ParedownError

_SHOWN = 8
_MEANS_NOTHING_WITHOUT: Mapping[str, tuple[str, ...]] = {
    "pattern": ("sparsity",),
    "decomposition": ("rank_fraction", "rank_error"),
    "rank_step": ("rank_fraction", "rank_error"),
    "ranges": ("activation_bits",),
}


class RuleNameError(ParedownError):
    """A rule names a layer, segment, group or block that no network has, or sets what means nothing."""


def check_settings(rules: Sequence[Rule]) -> None:
    """Refuses a setting that says how to do what no rule asks for.

    Raises:
        RuleNameError: There is one.
    """
    for part, wholes in _MEANS_NOTHING_WITHOUT.items():
        if any(getattr(rule, name, None) is not None for rule in rules for name in wholes):
            continue
        whole = " or ".join(wholes)
        for index, rule in enumerate(rules):
            if getattr(rule, part, None) is not None:
                raise RuleNameError(
                    f"space.rules[{index}].{part}: means nothing without {whole}, got "
                    f"{getattr(rule, part)} and no rule with {whole}; add {whole} to the rule, or "
                    f"delete {part}"
                )


def check_rule_names(rules: Sequence[Rule], maps: Iterable[ModelMap]) -> None:
    """Refuses a glob that matches no part of its kind in any of `maps`; "*" may match nothing.

    Raises:
        RuleNameError: There is such a glob.
    """
    everywhere = tuple(maps)
    for index, rule in enumerate(rules):
        (kind,) = rule.model_fields_set & {"layers", "segments", "groups", "blocks"}
        parts = (part for each in everywhere for part in getattr(each, kind))
        names = list(dict.fromkeys(part.name for part in parts))
        for glob in getattr(rule, kind):
            if glob != "*" and not any(fnmatchcase(name, glob) for name in names):
                raise RuleNameError(
                    f"space.rules[{index}].{kind}: must match {kind} of the model, got {glob!r}; "
                    f"{_remedy(glob, kind, names)}"
                )


def check_rank_errors(rules: Sequence[Rule], maps: Iterable[ModelMap]) -> None:
    """Refuses `rank_error` for layers of which none can become several operators.

    Raises:
        RuleNameError: There is such a rule.
    """
    layers = [layer for each in maps for layer in each.layers]
    for index, rule in enumerate(rules):
        if not isinstance(rule, LayerRule) or rule.rank_error is None:
            continue
        matched = [each for each in layers if any(fnmatchcase(each.name, g) for g in rule.layers)]
        if not any(map(is_factorizable, matched)):
            kinds = ", ".join(dict.fromkeys(_kind(layer) for layer in matched)) or "no layer"
            raise RuleNameError(
                f"space.rules[{index}].rank_error: must match a linear layer or an ungrouped 2-d "
                f"convolution, got {kinds}; name such layers, or delete rank_error"
            )


def _kind(layer: Layer) -> str:
    return f"grouped {layer.kind}" if layer.groups > 1 else layer.kind


def _remedy(glob: str, kind: str, names: Sequence[str]) -> str:
    if not names:
        return "it has none, so delete the rule"
    close = difflib.get_close_matches(glob.strip("*."), names, n=1, cutoff=0.9)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"its {kind} are {', '.join(names[:_SHOWN])}{more}"
