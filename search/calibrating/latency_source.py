"""Where a search's latencies come from: the device file, a fit, a calibration, or timing each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.hardware_models.devices.device import Device, host_device
from paredown.hardware_models.latency.calibrated import CalibratedLatency
from paredown.hardware_models.latency.calibration_file import (
    check_target,
    model_from_json,
    read_calibration,
)
from paredown.hardware_models.latency.learned import LearnedLatency, fit_best
from paredown.hardware_models.latency.measured import MeasuredLatency, start_measuring
from paredown.hardware_models.latency.models import LatencyError, LatencyModel, RooflineLatency
from paredown.hardware_models.timing.measure import fingerprint, measure_latencies
from paredown.hardware_models.timing.time_models import why_not_timed
from paredown.hardware_models.work.workload import Work, read_work
from paredown.search.tasks.cache import cache_folder
from paredown.spaces.candidates.blueprint import Blueprint, Storage
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.sealed import DamagedFileError, read_sealed, write_sealed

_log = logging.getLogger(__name__)

_NETWORKS = 120
"""Measured networks of a fit, 40 of each kind, of which the bound of an interval is the second largest
error."""
_BLOCKS = 15
_REFERENCES = 8
"""Sessions of the uncompressed model among those of the others: all ratios are told against it."""
_REPEATED = 24
"""Networks timed twice to learn how measuring repeats itself: an interval needs 20."""
_SEED = 7
_TIMED_HERE = {"measured": ("measured",), "calibrated": ("calibrated", "learned")}
"""Sources that time networks on this machine, and the kinds of model they may end in (`fit_best`)."""
_PRECISIONS = (SegmentChoice(activation_bits=8), SegmentChoice(), None)
"""What all segments of the networks drawn in turn are set to; None leaves them random."""


def latency_model(
    kind: str,
    device: Device,
    threads: int,
    space: Space,
    stored: Mapping[str, Any] | None,
) -> tuple[LatencyModel, dict[str, Any] | None]:
    """The latency model of a search, and what to keep of it for a resumption (None for a roofline).

    Args:
        kind: "roofline", "calibrated", "measured", or the path of a calibration file.
        stored: What an earlier call gave to keep: the same model comes back, nothing is measured.

    Raises:
        LatencyError: The device is not this machine and would have to be, or `stored` is a model of
            another kind, device or number of threads.
        CalibrationError: The file is no calibration, or one of another device or thread count.
    """
    if kind == "roofline":
        return RooflineLatency(device, threads), None
    if kind in _TIMED_HERE:
        _check_is_here(kind, device)
    if stored is not None:
        return _kept(kind, device, threads, space, stored), dict(stored)
    if kind == "measured":
        measured = _measured(threads, space)
        return measured, measured.to_json()
    if kind == "calibrated":
        fitted = _calibrated(device, threads, space)
        return fitted, fitted.to_json()
    model, _ = read_calibration(Path(kind))
    check_target(model, device, threads)
    return model, model.to_json()


def kept_latency_model(
    kind: str, device: Device, threads: int, space: Space, file: Path | None
) -> LatencyModel:
    """The latency model of a run, kept in `file`: read where it exists, written otherwise.

    Raises:
        LatencyError, CalibrationError: As `latency_model`, or `file` is damaged.
    """
    stored = _read(file) if file is not None and file.exists() else None
    model, written = latency_model(kind, device, threads, space, stored)
    if file is not None and stored is None and written is not None:
        write_sealed(file, written)
    return model


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_sealed(file)
    except DamagedFileError as error:
        raise LatencyError(
            f"{file} must hold the latency model that the run was begun with, but {error}; "
            "a new one would give its models other costs, so restore it or start a new run"
        ) from error


def _kept(
    kind: str, device: Device, threads: int, space: Space, stored: Mapping[str, Any]
) -> LatencyModel:
    try:
        if kind in _TIMED_HERE and stored.get("kind") not in _TIMED_HERE[kind]:
            raise LatencyError(f"it is {stored.get('kind')!r}, the config asks for {kind!r}")
        if kind == "measured":
            measured = MeasuredLatency.from_json(
                stored, export=export, reference=reference_work(space)
            )
            if measured.threads != threads:
                raise LatencyError(
                    f"it is for {measured.threads} threads, the config says {threads}"
                )
            return measured
        model = model_from_json(stored)
        check_target(model, device, threads)
        given = Path(kind)
        if given.is_file() and read_calibration(given)[0].to_json() != stored:
            raise LatencyError(f"{given} is another calibration now")
        return model
    except (KeyError, TypeError, ValueError) as error:
        raise LatencyError(
            f"the latency model kept in the run's folder does not fit: {error}; restore "
            "`hardware`, or start a new run"
        ) from error


def _check_is_here(kind: str, device: Device) -> None:
    here = host_device().name
    if device.name != here:
        raise LatencyError(
            f"hardware.latency {kind!r} times networks on this machine ({here}), got device "
            f"{device.name!r}; set hardware.latency to roofline, or to a file of `paredown "
            "calibrate --write` and `--read`"
        )


def _calibrated(device: Device, threads: int, space: Space) -> CalibratedLatency | LearnedLatency:
    samples = _samples(space, _NETWORKS)
    models = [model for _, model in samples]
    # Twice, in fresh sessions: a verification too is another time.
    first, again = (_seconds(models, threads) for _ in range(2))
    return fit_best(
        [work for work, _ in samples],
        first,
        device,
        threads=threads,
        fingerprint=fingerprint(threads),
        reference=reference_work(space),
        again_s=again,
    )


def _seconds(models: Sequence[bytes], threads: int) -> list[float]:
    """Latencies of one session each, and of several of the first, which is the reference."""
    share = -(-len(models) // _REFERENCES)
    parts = [range(start, len(models))[:share] for start in range(0, len(models), share)]
    order = np.array([i for part in parts for i in (0, *part)])
    found = measure_latencies(
        [models[i] for i in order], threads=threads, instances=1, blocks=_BLOCKS
    )
    times_s = np.array([each.mean_s for each in found])
    return [float(times_s[order == i].mean()) for i in range(len(models))]


def _measured(threads: int, space: Space) -> MeasuredLatency:
    reference = reference_work(space)
    others = [work for work, _ in _samples(space, _REPEATED)]
    folder = cache_folder() / "latency"
    return start_measuring(export, reference, others, folder, threads=threads)


def _samples(space: Space, count: int) -> list[tuple[Work, bytes]]:
    """Works of sample candidates and their ONNX files, without those that the runtime refuses."""
    found = []
    for candidate in sample_candidates(space, count):
        work = _work(space, candidate)
        model = export(work)
        reason = why_not_timed(model)
        if reason is None:
            found.append((work, model))
        else:
            _log.warning("sample network %s is not timed: %s", candidate.key, reason)
    return found


def reference_work(space: Space) -> Work:
    """The uncompressed model, first architecture of the space: what ratios are told against."""
    return _work(space, Candidate(architecture=space.architectures[0].name))


def _work(space: Space, candidate: Candidate) -> Work:
    return read_work(draft(space.model_map(candidate), candidate))


def export(work: Work) -> bytes:
    """The ONNX file of a work's blueprint, filled with random values: one work, one file."""
    assert work.blueprint is not None
    return bytes(lower(imagine(work.blueprint, _SEED)).SerializeToString())


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
    model_map = space.by_name[architecture].model_map
    activations = activation_bits or (8 if bits == 8 else 32)
    layers = {
        layer.name: LayerChoice(weight_bits=bits, method="gptq" if bits < 8 else "rtn")
        for layer in model_map.layers
    }
    segments = {s.name: SegmentChoice(activation_bits=activations) for s in model_map.segments}
    return Candidate.of(
        architecture=architecture, layers=layers, segments=segments if activations == 8 else {}
    )


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
    top = 2 ** (storage.bits - 1) - 1
    codes = torch.randint(-top, top + 1, storage.shape, generator=generator, dtype=torch.int8)
    scale = torch.full(storage.scale_shape, 0.01)
    return StoredTensor(storage=storage, values=codes, scale=scale)
