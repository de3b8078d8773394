"""A latency model made by measuring: networks timed twice, a model fitted to them and held out.

The networks are random candidates of a config's own space, or of general families. Each is timed
in two rounds with sessions of its own: their mean is the label, their difference the noise floor,
below which no model can go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.agreement import Accuracy, accuracy
from paredown.hardware_models.latency.calibrated import (
    FEWEST_NETWORKS,
    CalibratedLatency,
    CalibrationError,
)
from paredown.hardware_models.latency.cross_fitting import FOLDS, folds_of
from paredown.hardware_models.latency.learned import LearnedLatency, fit_best
from paredown.hardware_models.latency.models import Array
from paredown.hardware_models.latency.probes import Probe, probe_alignment, probe_kernels
from paredown.hardware_models.timing.machine_state import Preflight, preflight
from paredown.hardware_models.timing.measure import fingerprint, measure_latencies
from paredown.hardware_models.timing.time_models import why_not_timed
from paredown.hardware_models.work.workload import Work
from paredown.search.calibrating.drawing import Network, Notify, reference_work, space_networks
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.json_values import Json

_AT_ONCE = 250
"""Networks timed in one interleaved run: between runs a machine's speed shifts."""
_BLOCKS = 15
"""Blocks of each session; half of their two milliseconds counts."""
_REFERENCES = 8
"""Sessions of the uncompressed model among those of the others: all ratios refer to it."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be calibrated.

    Args:
        networks: To time; of a space the uncompressed one comes first.
        device: That they run on.
        threads: Of one inference.
        reference: Work of the first network, where ratios refer to it.
        is_judged: Whether the machine's state, the claims of its device file and networks held out
            are looked at too, for the report.
    """

    networks: tuple[Network, ...]
    device: Device
    threads: int
    reference: Work | None = None
    is_judged: bool = True

    @classmethod
    def of_space(
        cls, space: Space, count: int, device: Device, threads: int, *, is_judged: bool = True
    ) -> Request:
        """So many random candidates of a space."""
        return cls(
            networks=tuple(space_networks(space, count)),
            device=device,
            threads=threads,
            reference=reference_work(space),
            is_judged=is_judged,
        )


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

    def report(self) -> Mapping[str, Json]:
        """A JSON-ready report, kept beside the model."""
        return {
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "floor": None if self.floor is None else asdict(self.floor),
            "preflight": None if self.state is None else asdict(self.state),
            "probes": [asdict(probe) for probe in self.probes],
            "left_out": list(self.left_out),
        }


def calibrate_here(asked: Request, notify: Notify) -> Calibration:
    """A calibration of this machine.

    Raises:
        CalibrationError: The runtime loads fewer than 5 of the networks.
    """
    notify("opening the networks")
    networks, left_out = loadable(asked.networks)
    if len(networks) < FEWEST_NETWORKS:
        raise CalibrationError(
            f"a calibration needs at least {FEWEST_NETWORKS} networks, got {len(networks)}; "
            "ask for more with --networks, or open the space"
        )
    asked = replace(asked, networks=tuple(networks))
    state: Preflight | None = None
    probes: tuple[Probe, ...] = ()
    if asked.is_judged:
        state = preflight()
        notify("probing alignment and kernels")
        device, threads = asked.device, asked.threads
        probes = (*probe_alignment(device, threads), *probe_kernels(device, threads))
    times_s = time_networks(asked, notify)
    notify("fitting")
    found = concluded(asked, times_s, fingerprint(asked.threads))
    return replace(found, state=state, probes=probes, left_out=left_out)


def time_networks(asked: Request, notify: Notify) -> Array:
    """Seconds (networks, 2) of each network, timed twice in fresh sessions on this machine.

    A verification too is another time, so the second round begins when the first has ended.
    """
    models = [network.model for network in asked.networks]
    rounds = []
    for name in ("first", "second"):
        notify(f"timing {len(models)} networks, {name} time")
        rounds.append(_seconds(models, asked.threads, has_reference=asked.reference is not None))
    return np.array(rounds).T


def _seconds(models: Sequence[bytes], threads: int, *, has_reference: bool) -> list[float]:
    """Latencies of one session each, and of several of the first where that is the reference."""
    share = -(-len(models) // (_REFERENCES if has_reference else 1))
    parts = [range(start, len(models))[:share] for start in range(0, len(models), share)]
    order = [i for part in parts for i in ((0, *part) if has_reference else part)]
    found: list[float] = []
    for start in range(0, len(order), _AT_ONCE):
        together = [models[i] for i in order[start : start + _AT_ONCE]]
        timed = measure_latencies(together, threads=threads, instances=1, blocks=_BLOCKS)
        found += [each.mean_s for each in timed]
    times_s, which = np.array(found), np.array(order)
    return [float(times_s[which == i].mean()) for i in range(len(models))]


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


def concluded(asked: Request, times_s: Array, machine: str) -> Calibration:
    """The model fitted to all networks, and what folds that it had not seen say of it.

    Args:
        asked: With the networks that were timed.
        times_s: Seconds (networks, sessions): the first, and later ones that the bounds hold for.
        machine: Fingerprint of the one that timed them.
    """
    first, again = times_s[:, 0], times_s[:, 1:].mean(axis=1) if times_s.shape[1] > 1 else None
    model = fit_best(
        [network.work for network in asked.networks],
        first.tolist(),
        asked.device,
        threads=asked.threads,
        fingerprint=machine,
        reference=asked.reference,
        groups=_groups(asked.networks),
        again_s=None if again is None else again.tolist(),
    )
    labels = times_s.mean(axis=1)
    predicted = _held_out(asked, labels) if asked.is_judged else None
    return Calibration(
        model=model,
        held_out=None if predicted is None else accuracy(predicted, labels.tolist()),
        floor=None if again is None else accuracy(first.tolist(), again.tolist()),
    )


def _held_out(asked: Request, labels: Array) -> list[float] | None:
    """Predictions of every network by a model fitted without its fold; None where too few.

    Architectures are held out whole where there are several: a new one is what will be asked for.
    """
    works = [network.work for network in asked.networks]
    fold = folds_of(len(works), _groups(asked.networks))
    folds = np.unique(fold)
    if min(len(works) - int((fold == f).sum()) for f in folds) < FEWEST_NETWORKS:
        return None
    predicted = np.empty(len(works))
    for held in folds:
        seen = np.flatnonzero(fold != held).tolist()
        times_s = labels[seen].tolist()
        model = fit_best(
            [works[i] for i in seen], times_s, asked.device, threads=asked.threads, fingerprint=""
        )
        out = np.flatnonzero(fold == held).tolist()
        predicted[out] = model.predict_many([works[i] for i in out]).value_s
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
