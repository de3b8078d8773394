"""Invented evaluations of a small residual network, without any network."""

from __future__ import annotations

import random
from dataclasses import replace

from paredown.search.study.evaluation import Evaluation, Failure, FailureKind
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros

LAYER_WEIGHTS = {
    "conv1": 432,
    **{f"layer1.{i}.conv{j}": 2304 for i in range(2) for j in (1, 2)},
    **{f"layer2.{i}.conv{j}": 9216 for i in range(2) for j in (1, 2)},
    **{f"layer3.{i}.conv{j}": 36864 for i in range(2) for j in (1, 2)},
    "linear": 640,
}
SEGMENTS = ("stem", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1")
WIDTHS = {"layer2.0.conv1": 32, "layer3.0.conv1": 64}


FAILURE = Failure.of_text(FailureKind.RAISED, "FloatingPointError: the loss of batch 3 is NaN")


def invent(count: int, seed: int = 0) -> tuple[Evaluation, ...]:
    """`count` evaluations, the three references first; one in twenty of the others failed."""
    rng = random.Random(seed)
    made = [_reference(0, "uncompressed", 32), _reference(1, "uniform 8-bit", 8)]
    made.append(_reference(2, "uniform 4-bit", 4))
    while len(made) < count:
        made.append(_evaluate(len(made), _draw(rng), rng))
    return tuple(made)


def _reference(number: int, label: str, bits: int) -> Evaluation:
    layers = {name: LayerChoice(weight_bits=bits) for name in LAYER_WEIGHTS}
    activation_bits = 8 if bits == 8 else 32
    segments = {name: SegmentChoice(activation_bits=activation_bits) for name in SEGMENTS}
    candidate = Candidate.of(layers=layers, segments=segments)
    evaluated = _evaluate(number, candidate, random.Random(number))
    return replace(evaluated, kind="reference", label=label)


def _draw(rng: random.Random) -> Candidate:
    centre = rng.choice((2, 3, 4, 6, 8))
    nearby = [b for b in (2, 3, 4, 5, 6, 8) if abs(b - centre) <= 2]
    layers = {
        name: LayerChoice(
            weight_bits=rng.choice(nearby),
            zeros=Zeros(rng.choice((0.0, 0.0, 0.5)), "element"),
            rank=Rank(rng.choice((1.0, 1.0, 0.5)) if name == "linear" else 1.0),
        )
        for name in LAYER_WEIGHTS
    }
    share = rng.random()
    segments = {
        n: SegmentChoice(activation_bits=8 if rng.random() < share else 32) for n in SEGMENTS
    }
    widths = {name: rng.choice((full // 2, full)) for name, full in WIDTHS.items()}
    dropped = ("layer1.1",) if rng.random() < 0.15 else ()
    return Candidate.of(layers=layers, segments=segments, widths=widths, dropped=dropped)


def _evaluate(number: int, candidate: Candidate, rng: random.Random) -> Evaluation:
    total = sum(LAYER_WEIGHTS.values())
    damage = size = 0.0
    pace = 1 - 0.1 * len(candidate.dropped)
    for name, count in LAYER_WEIGHTS.items():
        choice = candidate.layer(name)
        damage += 2.0 ** (-1.6 * choice.weight_bits) * (0.6 + 3 * count / total)
        damage += 0.002 * choice.zeros.share
        size += count * choice.weight_bits / 8
    for name, kept in candidate.widths:
        damage += 0.015 * (1 - kept / WIDTHS[name])
        size *= 1 - 0.2 * (1 - kept / WIDTHS[name])
        pace *= 1 - 0.3 * (1 - kept / WIDTHS[name])
    damage += 0.03 * len(candidate.dropped)
    eight = sum(candidate.segment(name).activation_bits == 8 for name in SEGMENTS) / len(SEGMENTS)
    failed = number > 2 and rng.random() < 0.05
    metrics = {
        "accuracy": round(max(0.1, 0.881 - damage + rng.gauss(0, 0.0015)), 4),
        "loss": 0.36 + 2 * damage,
        "latency_s": 0.0021 * (1 - 0.5 * eight) * pace,
        "onnx_bytes": float(round(size + 6000)),
    }
    return Evaluation(
        number=number,
        key=candidate.key,
        candidate=candidate,
        metrics={} if failed else metrics,
        failure=FAILURE if failed else None,
        duration_s=0.9 + 0.2 * rng.random(),
    )
