"""The sizes of groups that rules offer a layer: what is left of them, and why the rest is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paredown.search.config.schema_space import LayerRule
from paredown.spaces.candidates.candidate import GROUPED_METHODS, GroupSize, SegmentChoice
from paredown.spaces.candidates.scale_groups import GROUPED_KINDS, effective_size
from paredown.spaces.structure.model_map import Layer, LeftOut
from paredown.spaces.system.errors import ParedownError


class ScaleRuleError(ParedownError):
    """A rule asks for groups beside a method that finds one scale for each output."""


def group_sizes(
    layer: Layer, asked: LayerRule, segments: Sequence[SegmentChoice]
) -> tuple[tuple[GroupSize, ...], tuple[LeftOut, ...]]:
    """Sizes that make a difference to the layer, the least harmful first, and those left out.

    Where no groups are left there is nothing to choose: ().

    Args:
        asked: All that rules say of the layer; without `group_size` nothing is offered.
        segments: How the layer's segment may compute.

    Raises:
        ScaleRuleError: A method that finds no groups is offered beside them.
    """
    sizes = sorted(size for size in asked.group_size or () if size)
    if not sizes:
        return (), ()
    if layer.kind not in GROUPED_KINDS:
        reason = "only rows of linear layers may have several scales"
        return (), (LeftOut(what=f"group_size of {layer.kind} layers", reason=reason),)
    if all(segment.activation_bits == 8 for segment in segments):
        reason = "integer kernels take one scale for each output"
        return (), (LeftOut(what=f"group_size of {layer.name}", reason=reason),)
    columns = layer.weight_shape[layer.in_axis]
    kept = [size for size in sizes if effective_size(columns, size)]
    _check_methods(layer, kept, asked.method or ())
    gone = tuple(
        LeftOut(
            what=f"group_size {size} of {layer.name}",
            reason=f"its outputs have {columns} inputs, which is no more than one group",
        )
        for size in sizes
        if size not in kept
    )
    has_whole = gone or 0 in (asked.group_size or ())
    if not kept:
        return (), gone
    return (*kept, 0) if has_whole else tuple(kept), gone


def _check_methods(layer: Layer, sizes: Sequence[int], methods: Iterable[str]) -> None:
    unfit = [method for method in methods if method not in GROUPED_METHODS]
    if sizes and unfit:
        raise ScaleRuleError(
            f"method of layer {layer.name!r} must be of {', '.join(GROUPED_METHODS)} beside "
            f"group_size {', '.join(map(str, sizes))}, got {', '.join(unfit)}; take it out of "
            "method, or leave group_size at 0"
        )
