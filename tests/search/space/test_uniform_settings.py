"""Uniform settings: each width once, beside each setting of the segments."""

from __future__ import annotations

from dataclasses import replace

from paredown.search.space.uniform_settings import uniform_settings


def test_they_are_all_widths_beside_all_precisions_and_nothing_else(workbench):
    space = workbench.space
    found = uniform_settings(space.architectures)
    assert len({c.key for c in found}) == len(found)
    assert all(space.contains(c) for c in found)
    assert not any(c.widths or c.dropped for c in found)
    for knob in space.architectures[0].knobs:
        if knob.kind == "weight_bits":
            assert {c.layer(knob.targets[0]).weight_bits for c in found} == set(knob.domain)
    precisions = {frozenset(choice.activation_bits for _, choice in c.segments) for c in found}
    assert precisions <= {frozenset(), frozenset({8}), frozenset({32})}
    assert frozenset({8}) in precisions


def test_a_layer_without_the_width_has_the_next_wider_one(workbench):
    space = workbench.space
    (architecture,) = space.architectures
    name = architecture.model_map.layers[0].name
    knobs = [
        replace(k, domain=(32, 4)) if (k.kind, k.targets) == ("weight_bits", (name,)) else k
        for k in architecture.knobs
    ]
    fewer = replace(space, architectures=(replace(architecture, knobs=tuple(knobs)),))
    others = [layer.name for layer in architecture.model_map.layers[1:]]
    found = [
        (c.layer(name).weight_bits, {c.layer(other).weight_bits for other in others})
        for c in uniform_settings(fewer.architectures)
        if not c.segments
    ]
    assert found == [(4, {2}), (4, {4}), (32, {8}), (32, {32})]
