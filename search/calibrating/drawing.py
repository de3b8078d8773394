"""Networks to time: random candidates of a space or of general families, filled with random values.

Kernels do not look at values: shapes, bits and types decide how long a network takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.rounding.quantize import nearest_codes_, top_code
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.devices.offered import capabilities
from paredown.hardware_models.work.workload import Work, read_work
from paredown.search.calibrating.families import Family, random_network
from paredown.search.config.schema_space import SpaceSection
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.blueprint import Blueprint, Storage
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.reading import read_model_map

CANDIDATES_EACH = 4
"""Candidates of one random architecture of a family."""
_SEED = 7
_PRECISIONS = (SegmentChoice(activation_bits=8), SegmentChoice(), None)
"""What all segments of the networks drawn in turn are set to; None leaves them random."""
Notify = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network to time: where it came from, what it does, and its ONNX file.

    `origin` is the space's architecture or the family and its seed. `group` counts architectures:
    networks of one group are held out together.
    """

    origin: str
    candidate: Candidate
    group: int
    work: Work
    model: bytes


def space_networks(space: Space, count: int) -> list[Network]:
    """Random candidates of a space as networks to time, references first."""
    names = [architecture.name for architecture in space.architectures]
    return [
        network_of(
            space, candidate, seed, candidate.architecture, names.index(candidate.architecture)
        )
        for seed, candidate in enumerate(sample_candidates(space, count))
    ]


def family_networks(
    families: Sequence[Family],
    count: int,
    device: Device,
    notify: Notify,
    candidates: int = CANDIDATES_EACH,
) -> list[Network]:
    """Random candidates of random architectures, so many of each, equally many of each family."""
    found: list[Network] = []
    each = max(1, count // (len(families) * candidates))
    for family in families:
        notify(f"reading {each} random networks like {family}")
        for seed in range(each):
            space = family_space(family, seed, device)
            # The references come first; every architecture gives one of the two in turn.
            drawn = sample_candidates(space, candidates + 2)
            for candidate in (drawn[seed % 2], *drawn[3:]):
                origin, group = f"{family} {seed}", len(found) // candidates
                found.append(network_of(space, candidate, len(found), origin, group))
    return found


def family_space(family: Family, seed: int, device: Device) -> Space:
    """The whole space that the device offers of one random network."""
    module, example = random_network(family, seed)
    maps = {f"{family}-{seed}": read_model_map(capture(module, example))}
    return build_space(
        SpaceSection(), maps, capabilities(device), ("latency_s", "onnx_bytes", "packed_bytes")
    )


def network_of(space: Space, candidate: Candidate, seed: int, origin: str, group: int) -> Network:
    """A candidate with random values, as exported: kernels do not look at values."""
    blueprint = draft(space.model_map(candidate), candidate)
    return Network(
        origin=origin,
        candidate=candidate,
        group=group,
        work=read_work(blueprint),
        model=_exported(blueprint, seed),
    )


def reference_work(space: Space) -> Work:
    """The uncompressed model, first architecture of the space: what ratios refer to."""
    return _work(space, Candidate(architecture=space.architectures[0].name))


def _work(space: Space, candidate: Candidate) -> Work:
    return read_work(draft(space.model_map(candidate), candidate))


def export(work: Work) -> bytes:
    """The ONNX file of a work's blueprint, filled with random values: one work, one file."""
    assert work.blueprint is not None
    return _exported(work.blueprint, _SEED)


def _exported(blueprint: Blueprint, seed: int) -> bytes:
    return bytes(lower(imagine(blueprint, seed)).SerializeToString())


def sample_candidates(space: Space, count: int, seed: int = _SEED) -> list[Candidate]:
    """Candidates of the space to time: references first, then as many all 8-bit, all float and random.

    An interval holds for networks like those it was made from. Random precision per segment alone
    would hardly ever draw the networks of one precision that fronts consist of.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Candidate] = {}
    for architecture in space.architectures:
        for bits in (32, 8):
            candidate = uniform(space, architecture.name, bits)
            found[candidate.key] = candidate
    sizes = space.dimensions()
    dynamic = SegmentChoice(activation_bits=8, ranges="dynamic")
    offered = (knob.domain for each in space.architectures for knob in each.knobs)
    precisions = (*_PRECISIONS, dynamic) if any(dynamic in d for d in offered) else _PRECISIONS
    attempts = 0
    while len(found) < count and attempts < 50 * count:
        setting = precisions[attempts % len(precisions)]
        attempts += 1
        drawn = {n: int(torch.randint(size, (), generator=generator)) for n, size in sizes.items()}
        candidate = space.decode(drawn)
        if setting is not None:
            segments = {s.name: setting for s in space.model_map(candidate).segments}
            # Canonical: float weights between 8-bit values are not what runs there.
            candidate = canonical(
                space.by_name[candidate.architecture],
                Candidate.of(
                    architecture=candidate.architecture,
                    layers=dict(candidate.layers),
                    segments=segments,
                    widths=dict(candidate.widths),
                    dropped=candidate.dropped,
                ),
            )
        found[candidate.key] = candidate
    return list(found.values())[:count]


def uniform(space: Space, architecture: str, bits: int, activation_bits: int = 0) -> Candidate:
    """Every layer at one width: 8 and more bits with the activations alike, fewer with float ones."""
    network = space.by_name[architecture]
    activations = activation_bits or (8 if bits == 8 else 32)
    layers = {
        layer.name: LayerChoice(weight_bits=bits, method="gptq" if bits < 8 else "rtn")
        for layer in network.model_map.layers
    }
    return Candidate.of(
        architecture=architecture,
        layers=layers,
        segments=_in_codes(network) if activations == 8 else {},
    )


def _in_codes(network: Architecture) -> dict[str, SegmentChoice]:
    """Every segment on 8-bit codes, with ranges that its layers have kernels for and its knob offers.

    Linear layers run on codes of static ranges as well as of dynamic ones, an LSTM on the latter alone. A
    segment without such layers follows the others.
    """
    offered = {
        target: {choice.ranges for choice in knob.domain if choice.activation_bits == 8}
        for knob in network.knobs_of(SegmentKnob)
        for target in knob.targets
    }
    anywhere = {each for ranges in offered.values() for each in ranges}
    found = {}
    for segment in network.model_map.segments:
        layers = (network.model_map.layer_by_name[name] for name in segment.layers)
        is_recurrent = any(each.kind == "recurrent" and each.finds_range for each in layers)
        ranges = offered.get(segment.name) or anywhere
        is_dynamic = "dynamic" in ranges and (is_recurrent or "static" not in ranges)
        found[segment.name] = SegmentChoice(
            activation_bits=8, ranges="dynamic" if is_dynamic else "static"
        )
    return found


def imagine(blueprint: Blueprint, seed: int) -> CompressedModel:
    """A model of this structure with random values, for timing: kernels do not look at values."""
    generator = torch.Generator().manual_seed(seed)
    stored = {name: _random(s, generator) for name, s in blueprint.storage.items()}
    return CompressedModel(blueprint=blueprint, stored=stored)


def _random(storage: Storage, generator: torch.Generator) -> StoredTensor:
    if storage.bits == 32:
        # Positive: a variance of a standing batch norm must have a root. Whole numbers become zeros,
        # which are indices of anything.
        values = torch.rand(storage.shape, generator=generator) * 0.1 + 0.01
        values = values.to(getattr(torch, storage.dtype))
        return StoredTensor(storage=storage, values=values)
    top = top_code(storage.bits)
    codes = torch.randint(-top, top + 1, storage.shape, generator=generator, dtype=torch.int8)
    codes = nearest_codes_(codes, storage.bits)
    scale = torch.full(storage.scale_shape, 0.01)
    return StoredTensor(storage=storage, values=codes, scale=scale)
