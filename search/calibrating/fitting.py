"""A latency model made by measuring: networks drawn, exported, timed twice, fitted, held out.

The networks are random candidates of a config's own space, or of general families. Each is timed
in two rounds with sessions of its own: their mean is the label, their difference the noise floor,
below which no model can go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.devices.offered import capabilities
from paredown.hardware_models.latency.agreement import Accuracy, accuracy
from paredown.hardware_models.latency.calibrated import (
    FEWEST_NETWORKS,
    CalibratedLatency,
    CalibrationError,
)
from paredown.hardware_models.latency.cross_fitting import FOLDS, folds_of
from paredown.hardware_models.latency.learned import LearnedLatency, fit_best
from paredown.hardware_models.latency.probes import Probe, probe_alignment, probe_kernels
from paredown.hardware_models.timing.machine_state import Preflight, preflight
from paredown.hardware_models.timing.measure import fingerprint, measure_latencies
from paredown.hardware_models.timing.time_models import why_not_timed
from paredown.hardware_models.work.workload import Work, read_work
from paredown.search.calibrating.families import Family, random_network
from paredown.search.calibrating.latency_source import imagine, sample_candidates
from paredown.search.config.schema_space import SpaceSection
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.graph.capturing import capture
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.reading import read_model_map

NETWORKS = 200
"""Measured networks of a calibration: about half a minute for a network the size of ResNet-20."""
CANDIDATES_EACH = 4
"""Candidates of one random architecture of a family."""
_AT_ONCE = 250
"""Networks timed in one interleaved run: between runs a machine's speed shifts."""
_BLOCKS = 20
"""Blocks of each session; half of their two milliseconds counts."""
Told = Callable[[str], None]


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


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A fitted model with everything that says how far to trust it.

    `held_out` compares predictions of networks with the fit that had not seen them; `floor` the
    second timing of a network with its first, None where there was one timing only. `left_out`
    names networks that the runtime does not load, with its reason.
    """

    model: CalibratedLatency | LearnedLatency
    held_out: Accuracy | None
    floor: Accuracy | None
    state: Preflight | None = None
    probes: tuple[Probe, ...] = ()
    left_out: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """A JSON-ready report, kept beside the model."""
        return {
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "floor": None if self.floor is None else asdict(self.floor),
            "preflight": None if self.state is None else asdict(self.state),
            "probes": [asdict(probe) for probe in self.probes],
            "left_out": list(self.left_out),
        }


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
    told: Told,
    candidates: int = CANDIDATES_EACH,
) -> list[Network]:
    """Random candidates of random architectures, so many of each, equally many of each family."""
    found: list[Network] = []
    each = max(1, count // (len(families) * candidates))
    for family in families:
        told(f"reading {each} random networks like {family}")
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
        model=exported(blueprint, seed),
    )


def exported(blueprint: Blueprint, seed: int = 0) -> bytes:
    """The ONNX file of a blueprint filled with random values."""
    return bytes(lower(imagine(blueprint, seed)).SerializeToString())


def time_networks(networks: Sequence[Network], threads: int, told: Told) -> np.ndarray[Any, Any]:
    """Seconds (networks, 2) of two fresh sessions each, interleaved in batches on this machine."""
    found: list[tuple[float, float]] = []
    for start in range(0, len(networks), _AT_ONCE):
        models = [network.model for network in networks[start : start + _AT_ONCE]]
        told(f"timing networks {start + 1} to {start + len(models)} of {len(networks)}")
        # Every model twice in one interleaved run: two sessions, two results.
        twice = measure_latencies([*models, *models], threads=threads, instances=1, blocks=_BLOCKS)
        times = [each.mean_s for each in twice]
        found += zip(times[: len(models)], times[len(models) :], strict=True)
    return np.array(found)


def calibrate_here(
    networks: Sequence[Network],
    device: Device,
    threads: int,
    told: Told,
    reference: Work | None = None,
) -> Calibration:
    """A calibration of this machine.

    Args:
        reference: The uncompressed network of a space, one of `networks`.

    Raises:
        CalibrationError: Fewer than 5 networks.
    """
    told("opening the networks")
    networks, left_out = loadable(networks)
    if len(networks) < FEWEST_NETWORKS:
        raise CalibrationError(
            f"a calibration needs at least {FEWEST_NETWORKS} networks, got {len(networks)}; "
            "ask for more with --networks, or open the space"
        )
    state = preflight()
    told("probing alignment and kernels")
    probes = (*probe_alignment(device, threads), *probe_kernels(device, threads))
    times = time_networks(networks, threads, told)
    told("fitting")
    found = concluded(networks, times, device, threads, fingerprint(threads), reference)
    return replace(found, state=state, probes=probes, left_out=left_out)


def loadable(networks: Sequence[Network]) -> tuple[list[Network], tuple[str, ...]]:
    """Networks that the runtime loads, and what it says of the others."""
    kept: list[Network] = []
    left_out: list[str] = []
    for network in networks:
        reason = why_not_timed(network.model)
        if reason is None:
            kept.append(network)
        else:
            left_out.append(f"{network.origin} {network.candidate.key}: {reason}")
    return kept, tuple(left_out)


def concluded(
    networks: Sequence[Network],
    times_s: np.ndarray[Any, Any],
    device: Device,
    threads: int,
    machine: str,
    reference: Work | None = None,
) -> Calibration:
    """The model fitted to all networks, and what folds that it had not seen say of it.

    Args:
        times_s: Seconds (networks, sessions).
        reference: As `calibrate_here`.
    """
    works = [network.work for network in networks]
    labels = times_s.mean(axis=1)
    model = fit_best(
        works,
        labels.tolist(),
        device,
        threads=threads,
        fingerprint=machine,
        reference=reference,
        groups=_groups(networks),
    )
    predicted = _held_out(networks, labels, device, threads)
    floor = None
    if times_s.shape[1] > 1:
        floor = accuracy(times_s[:, 0].tolist(), times_s[:, 1:].mean(axis=1).tolist())
    return Calibration(
        model=model,
        held_out=None if predicted is None else accuracy(predicted, labels.tolist()),
        floor=floor,
    )


def _held_out(
    networks: Sequence[Network], labels: np.ndarray[Any, Any], device: Device, threads: int
) -> list[float] | None:
    """Predictions of every network by a model fitted without its fold; None where too few.

    Architectures are held out whole where there are several: a new one is what will be asked for.
    """
    fold = folds_of(len(networks), _groups(networks))
    folds = np.unique(fold)
    if min(len(networks) - int((fold == f).sum()) for f in folds) < FEWEST_NETWORKS:
        return None
    predicted = np.empty(len(networks))
    for held in folds:
        seen = np.flatnonzero(fold != held).tolist()
        model = fit_best(
            [networks[i].work for i in seen],
            labels[seen].tolist(),
            device,
            threads=threads,
            fingerprint="",
        )
        out = np.flatnonzero(fold == held).tolist()
        predicted[out] = model.predict_many([networks[i].work for i in out]).value_s
    return list(predicted.tolist())


def _groups(networks: Sequence[Network]) -> list[int] | None:
    """The architecture of each network where they are enough to hold out whole."""
    groups = [network.group for network in networks]
    return groups if len(set(groups)) >= FOLDS else None


def summary_rows(calibration: Calibration) -> Mapping[str, tuple[str, str]]:
    """Figures of the report by name: those of the model, and those of a second timing."""
    rows: dict[str, tuple[str, str]] = {}
    for name, text in (
        ("mean error", lambda a: f"{a.mape:.1%}"),
        ("95 % of errors below", lambda a: f"{a.error_95:.1%}"),
        ("rank correlation", lambda a: f"{a.spearman:.3f}"),
        ("pairs apart by 10 % ordered right", _pairs),
    ):
        pair = (calibration.held_out, calibration.floor)
        held, floor = ("-" if a is None else text(a) for a in pair)
        rows[name] = (held, floor)
    return rows


def _pairs(found: Accuracy) -> str:
    return "-" if found.pairs_ordered is None else f"{found.pairs_ordered:.1%}"
