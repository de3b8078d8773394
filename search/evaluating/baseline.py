"""What the uncompressed model costs, reported before a search, so that no bound need be guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paredown.compressors.onnx.plan import ExportError
from paredown.compressors.onnx.sizes import file_sizes
from paredown.hardware_models.latency.elsewhere import latencies_elsewhere
from paredown.hardware_models.latency.models import LatencyModel, RooflineLatency
from paredown.hardware_models.pricing.costs import CostModels
from paredown.hardware_models.work.workload import read_work
from paredown.search.calibrating.latency_source import latency_model
from paredown.search.evaluating.holding import check_files
from paredown.search.evaluating.surveying import Surveyed
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft

_TIMED = ("calibrated", "measured")
_REPORTED = (
    "latency_s",
    "latency_low_s",
    "latency_high_s",
    "onnx_bytes",
    "packed_bytes",
    "peak_memory_bytes",
    "weight_memory_bytes",
    "macs",
    "bops",
)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Costs of the uncompressed model by metric, or why there are none.

    `latency_source` names the latency model; `is_preset` says that a search will use a better one,
    fitted on the machine, which inspecting does not take the time for.
    """

    costs: Mapping[str, float]
    latency_source: str
    is_preset: bool
    problem: str | None = None


def preset_costs(surveyed: Surveyed) -> CostModels:
    """Cost models with nothing timed: all are a search's own but its latency, where it times networks.

    Raises:
        CalibrationError: `hardware.latency` is a file for another device or thread count.
    """
    hardware = surveyed.config.hardware
    model: LatencyModel = RooflineLatency(surveyed.device, hardware.threads)
    if hardware.latency not in _TIMED:
        model, _ = latency_model(
            hardware.latency, surveyed.device, hardware.threads, surveyed.space, None
        )
    return CostModels(
        device=surveyed.device,
        latency_model=model,
        reference=read_work(_uncompressed(surveyed)),
        further=file_sizes() | latencies_elsewhere(surveyed.also, hardware.threads),
    )


def _uncompressed(surveyed: Surveyed) -> Blueprint:
    first = surveyed.space.architectures[0]
    return draft(first.model_map, Candidate(architecture=first.name))


def baseline_of(surveyed: Surveyed) -> Baseline:
    """Costs of the first architecture of `surveyed`, with nothing timed.

    Raises:
        CalibrationError: `hardware.latency` is a file for another device or thread count.
    """
    costs, blueprint = preset_costs(surveyed), _uncompressed(surveyed)
    model = costs.latency_model
    is_preset = surveyed.config.hardware.latency in _TIMED
    try:
        check_files(surveyed.captured, surveyed.space, surveyed.task.splits.search)
        priced = costs.price(blueprint)
    except ExportError as error:
        return Baseline(
            costs={}, latency_source=model.source, is_preset=is_preset, problem=str(error)
        )
    return Baseline(
        costs={name: priced[name] for name in _REPORTED if name in priced},
        latency_source=model.source,
        is_preset=is_preset,
    )
