"""What share of a network's weight bytes each kind of knob reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping

from paredown.spaces.candidates.blueprint import ITEM_BYTES
from paredown.spaces.candidates.candidate import Candidate, Setting
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.knob import Knob, ValueT
from paredown.spaces.structure.model_map import ModelMap


def float_bytes(model_map: ModelMap) -> Mapping[str, int]:
    """Bytes of each float tensor that the graph reads, weights or not, by its name."""
    found: dict[str, int] = {}
    for name, shape in model_map.tensor_shapes.items():
        dtype = model_map.tensor_dtypes.get(name, "float32")
        if "float" in dtype:
            found[name] = math.prod(shape) * ITEM_BYTES[dtype]
    return found


def reached_shares(architecture: Architecture) -> Mapping[str, float]:
    """By kind of knob the share, 0 to 1, of the bytes of all float tensors that it can change.

    A knob whose values all leave the network as it is reaches nothing; those that never change a cost
    are left out.
    """
    model_map = architecture.model_map
    sizes = float_bytes(model_map)
    reached: dict[str, set[str]] = {}
    for knob in (each for each in architecture.knobs if each.changes_costs):
        tensors = knob.tensors_of(model_map) if _changes(knob) else frozenset()
        reached.setdefault(knob.kind, set()).update(tensors)
    total = sum(sizes.values())
    return {
        kind: sum(sizes.get(name, 0) for name in names) / total for kind, names in reached.items()
    }


def _changes(knob: Knob[ValueT]) -> bool:
    setting = Setting.of(Candidate())
    knob.apply(setting, knob.domain[-1])
    return setting.candidate() != Candidate()
