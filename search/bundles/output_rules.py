"""The rules on what a bundle gives: outputs and metric through ONNX Runtime, held against our own run.

Two right runtimes differ by rounding, and 8-bit codes that round the other way are carried on. So
outputs are held to their own spread, and a metric to what differences of the size that was seen make
of it: that follows the number of rows, the margins between classes and the metric's own scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnxruntime as ort
import torch
from torch import Tensor

from paredown.compressors.onnx.kernel_checks import session
from paredown.compressors.storage.compressed import CompressedModel
from paredown.search.bundles.rules import Findings
from paredown.search.evaluating.runtime_outputs import Outputs, both_outputs, simulated_outputs
from paredown.search.tasks.metrics import Metric, Tally
from paredown.search.tasks.splits import Split, Targets
from paredown.spaces.graph.functions import QUANTISERS

RELATIVE_ERROR = 1e-4
"""Of the largest magnitude: what rounding in float32 comes to in deep networks."""
SPREAD_ERROR = 0.03
"""Of the spread of outputs, root mean square; ResNet-20 in 8 bits shows 0.005, a transformer 0.002."""
CODES = 255
"""A last value in 8 bits may be off by one step of its range."""
CHOICE_ERROR = 0.005
"""Share of integer outputs (classes that the network itself chooses) that may differ."""
METRIC_TOLERANCE = 0.003
"""Below this a difference is not looked into: share of the value, or points of a share in [0, 1]."""

_MOST_VALUES = 2**26
_PARITY_ROWS = 256
_SEED = 11
_REPLICAS = 8
_DEVIATIONS = 4.0
"""Standard deviations of noise that a metric may be off by: one right bundle in 10,000 is further."""
_FLIPS = 2
"""Rows on the border of two classes that any split may hold, however short it is."""


def has_codes(model: CompressedModel) -> bool:
    """Whether any activation is 8 bits wide."""
    return any(node.op in QUANTISERS for node in model.blueprint.graph.nodes)


def random_rows(model: CompressedModel) -> Split:
    """Inputs made up by shape and type: normal floats, zeros and ones for integers."""
    graph = model.blueprint.graph
    generator = torch.Generator().manual_seed(_SEED)
    row = sum(math.prod(shape[1:]) for shape in graph.input_shapes)
    # A card's graph may declare rows of any size that can be loaded.
    rows = max(1, min(_PARITY_ROWS, _MOST_VALUES // row))
    inputs = []
    for shape, dtype in zip(graph.input_shapes, graph.input_dtypes, strict=True):
        size = (rows, *shape[1:])
        kind = getattr(torch, dtype)
        made = torch.randn(size, generator=generator)
        inputs.append(made.to(kind) if kind.is_floating_point else (made > 0).to(kind))
    return Split(inputs=tuple(inputs), targets=torch.zeros(rows))


@dataclass
class _Moments:
    """Sums over the rows of one output: of its squared differences, and for its spread.

    Of an integer output, a class number or an index, only whether it is the same counts.
    """

    is_choice: bool
    rows: int = 0
    values: int = 0
    square: float = 0.0
    off_square: float = 0.0
    largest: float = 0.0
    total: Tensor | None = None

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """Counts one batch of the output, (rows, ...), from both runtimes."""
        if self.is_choice:
            ours, theirs = (ours != theirs).double(), torch.zeros(theirs.shape)
        ours, theirs = ours.double(), theirs.double()
        # Equal infinities (a masked score) agree; a NaN agrees with nothing.
        off = torch.where(ours == theirs, 0.0, ours - theirs)
        finite = torch.where(theirs.isfinite(), theirs, 0.0)
        self.rows += len(theirs)
        self.values += theirs.numel()
        self.off_square += float(off.square().sum())
        self.square += float(finite.square().sum())
        self.largest = max(self.largest, float(finite.abs().max()))
        total = finite.sum(0)
        self.total = total if self.total is None else self.total + total

    @property
    def noise(self) -> float:
        """Root mean square of the differences, NaN where one is; of choices the share that differs."""
        mean = self.off_square / self.values
        return mean if self.is_choice else math.sqrt(mean)

    @property
    def spread(self) -> float:
        """Standard deviation over rows, root mean square over an output's elements."""
        assert self.total is not None
        centred = self.square - float(self.total.square().sum()) / self.rows
        return math.sqrt(max(0.0, centred) / self.values)

    @property
    def allowed(self) -> float:
        """The largest noise of a right bundle, in the output's own unit."""
        if self.is_choice:
            return CHOICE_ERROR + _FLIPS / self.rows
        return SPREAD_ERROR * self.spread + self.largest / CODES

    @property
    def relative(self) -> float:
        """The noise over the spread; as it is where there is none."""
        return self.noise / self.spread if self.spread else self.noise


@dataclass
class OutputGap:
    """How far a runtime's outputs lie from the simulation's, over the batches of a split."""

    outputs: list[_Moments] = field(default_factory=list)

    def add(self, ours: Outputs, theirs: Outputs) -> None:
        """Counts one batch of both, outputs in the model's order."""
        kinds = [not value.is_floating_point() for value in theirs]
        self.outputs = self.outputs or [_Moments(is_choice=kind) for kind in kinds]
        for moments, one, other in zip(self.outputs, ours, theirs, strict=True):
            moments.add(one, other)

    @property
    def noise(self) -> tuple[float, ...]:
        """What each output is off by, in its own unit, and no more than what is allowed."""
        return tuple(min(output.noise, output.allowed) for output in self.outputs)


def check_agreement(gap: OutputGap, found: Findings) -> None:
    """Rule `agreement`: outputs as they run differ from the simulation's by little of their spread.

    Root mean square over the split, per output: 3 % of the spread over rows and one step of 255 of
    the largest magnitude. Of integer outputs half a per cent, and two rows, may differ.
    """
    errors = torch.tensor([output.relative for output in gap.outputs])
    found.note("output_error", float(errors.max()))
    for position, output in enumerate(gap.outputs):
        found.expect(
            output.noise <= output.allowed,
            f"agreement: output {position} through ONNX Runtime is off by {output.noise:.3g} "
            f"(root mean square), at most {output.allowed:.3g} may be: its spread is "
            f"{output.spread:.3g}, its largest magnitude {output.largest:.3g}",
        )


def check_outputs(
    running: ort.InferenceSession, model: CompressedModel, split: Split, found: Findings
) -> None:
    """Rules `parity` and `agreement` on inputs without targets."""
    check_parity(model, split, found)
    gap = OutputGap()
    for outputs, simulated, _ in both_outputs(running, model, split):
        gap.add(outputs, simulated)
    check_agreement(gap, found)


def check_parity(model: CompressedModel, test: Split, found: Findings) -> None:
    """Rule `parity`: without 8-bit activations both runtimes agree up to rounding.

    The largest difference over the largest magnitude, on 256 inputs; linear layers with integer
    weights keep their inputs in float here. Models with 8-bit activations are left to `agreement`.
    """
    if has_codes(model):
        return
    exact = session(found.onnx_path, exact=True)
    off, size = 0.0, 0.0
    for outputs, simulated, _ in both_outputs(exact, model, test, _PARITY_ROWS):
        off = max(off, largest_difference(outputs, simulated))
        size = max(size, *(float(value.abs().max()) for value in simulated))
    relative = off / size if size else off
    found.note("relative_error", relative)
    found.expect(
        relative <= RELATIVE_ERROR,
        f"parity: outputs are off by {relative:.2e} of the largest, at most {RELATIVE_ERROR:.0e}",
    )


def largest_difference(outputs: Outputs, simulated: Outputs) -> float:
    """Between all values of both, in the outputs' own unit; infinite where one is NaN."""
    pairs = zip(outputs, simulated, strict=True)
    worst = torch.stack([(a.double() - b.double()).abs().max() for a, b in pairs]).max()
    # max() would drop a NaN, and a NaN is as wrong as can be.
    return float("inf") if bool(worst.isnan()) else float(worst)


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """What runs a metric again under noise: the simulation on the same rows of the same split."""

    model: CompressedModel
    split: Split
    rows: int | None
    noise: Sequence[float]

    def effect(self, metric: Metric) -> float:
        """Root mean square of what normal noise of that size does to the metric, over 8 draws."""
        return noise_effect(
            metric, simulated_outputs(self.model, self.split, self.rows), self.noise
        )


def noise_effect(
    metric: Metric, batches: Iterable[tuple[Outputs, Targets]], noise: Sequence[float]
) -> float:
    """Root mean square, over draws, of the metric's change under noise of these sizes in its outputs.

    Args:
        batches: Outputs and targets.
        noise: Standard deviation for each output; of integer outputs the share that another row's
            values stand in for.
    """
    generator = torch.Generator().manual_seed(_SEED)
    plain, *noisy = [metric.tally() for _ in range(1 + _REPLICAS)]
    for outputs, targets in batches:
        plain.add(outputs, targets)
        for tally in noisy:
            tally.add(_stirred(outputs, noise, generator), targets)
    still = plain.value()
    return math.sqrt(sum((tally.value() - still) ** 2 for tally in noisy) / len(noisy))


def _stirred(outputs: Outputs, noise: Sequence[float], generator: torch.Generator) -> Outputs:
    return tuple(
        _noisy(value, size, generator)
        if value.is_floating_point()
        else _mixed(value, size, generator)
        for value, size in zip(outputs, noise, strict=True)
    )


def _noisy(value: Tensor, size: float, generator: torch.Generator) -> Tensor:
    return value + size * torch.randn(value.shape, generator=generator).to(value.dtype)


def _mixed(value: Tensor, share: float, generator: torch.Generator) -> Tensor:
    others = value[torch.randperm(len(value), generator=generator)]
    return torch.where(torch.rand(value.shape, generator=generator) < share, others, value)


def check_metric(ours: Tally, simulation: Tally, rerun: Rerun, found: Findings) -> float:
    """Rule `metric`: through ONNX Runtime as in the simulation, on one split; the difference allowed.

    A difference of 0.3 points of a share, or 0.3 % of any other value, is not looked into. A larger
    one must be explained by the differences of the outputs: no more than four times what random ones
    of that size do to this metric on these rows, and for accuracy two rows.
    """
    metric, name = ours.metric, ours.metric.name
    value, simulated = ours.value(), simulation.value()
    found.predicted[f"test_{name}"] = simulated
    found.note(f"test_{name}", value)
    allowed = METRIC_TOLERANCE * (1.0 if metric.quality.is_share else abs(simulated))
    if not abs(value - simulated) <= allowed and math.isfinite(value):
        rows = len(rerun.split) if rerun.rows is None else min(rerun.rows, len(rerun.split))
        flips = _FLIPS / rows if metric.quality.is_hit_rate else 0.0
        allowed += flips + _DEVIATIONS * rerun.effect(metric)
    found.expect(
        abs(value - simulated) <= allowed,
        f"metric: {name} on the test split is {value:.6g} through ONNX Runtime, "
        f"{simulated:.6g} +- {allowed:.2g} in the simulation",
    )
    return allowed
