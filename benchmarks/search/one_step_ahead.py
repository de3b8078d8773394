"""How honest the sampler `pareto` is: of scores to come, how many lie in their 90 % intervals.

    PAREDOWN_DATA=... python benchmarks/search/one_step_ahead.py examples/cifar10_resnet20.yaml \\
        --set hardware.latency=roofline --set "goals=[{metric: accuracy}, {metric: onnx_bytes}]"

Searches the config's space in batches, as a search does, on the first `search.rung_images` rows. Before a
batch is scored, the first quality among the goals is predicted for each of its candidates from what was
scored before. Counted from `--from` evaluations on: behind the references and uniform settings. An
interval is the mean and 1.645 deviations of the score on either side. Hypervolume counts from ten points
of accuracy (of another quality its margin) below the uncompressed model, and from the costs of the
uniform 8-bit one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from paredown.search.calibrating.drawing import uniform
from paredown.search.config.reading import load_config
from paredown.search.evaluating.bounds import absolute_goals
from paredown.search.evaluating.workbench import Workbench, prepare
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.of_search import pareto_sampler
from paredown.search.proposing.pareto.of_space import SpaceCodes
from paredown.search.proposing.pareto.pareto_sampler import ParetoSampler
from paredown.search.proposing.proposer import Proposer
from paredown.search.proposing.sampler import OptunaSampler
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import front_of, hypervolume, reference_point
from paredown.spaces.candidates.candidate import Candidate

_DEVIATIONS = 1.645


def evaluated(workbench: Workbench, candidate: Candidate, number: int) -> Evaluation:
    """A candidate priced and scored on the first rung."""
    score = workbench.evaluator.evaluate(candidate, workbench.rungs[0])
    metrics = workbench.price(candidate)
    return Evaluation(
        number=number,
        key=candidate.key,
        candidate=candidate,
        rung=workbench.rungs[0],
        metrics=metrics | {workbench.task.metric.name: score.metric, "loss": score.loss},
    )


def main() -> None:
    """Prints a line a candidate, then coverage, width and hypervolume."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="A.B=C")
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--from", type=int, default=12, dest="first")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(arguments.config, arguments.overrides)
    workbench = prepare(config)
    base = workbench.evaluate_uncompressed(workbench.rungs[0])
    goals = absolute_goals(config.goals, base.metrics)
    quality = next(goal for goal in goals if not goal.is_cost)
    sampler = pareto_sampler(
        space=workbench.space,
        goals=goals,
        base=base,
        terms=DamageTerms(workbench.databases),
        outlook=Outlook(),
        costs=workbench.costs,
        seed=config.search.seed,
    )
    assert isinstance(sampler, ParetoSampler), "one goal at least is a quality"
    codes = SpaceCodes(workbench.space)
    directions = {goal.metric: goal.direction for goal in goals}
    adapter = OptunaSampler(workbench.space, directions, sampler)
    proposer = Proposer(workbench.space, [adapter], lambda _: None)
    name = workbench.space.architectures[0].name
    scored = [base]
    for bits in (8, 4):
        scored.append(evaluated(workbench, uniform(workbench.space, name, bits), len(scored)))
    for each in scored:
        proposer.learn(each)
    worst = reference_point(goals, base, scored[1])
    origin = quality.loss(base.metrics[quality.metric])
    inside, widths = [], []
    while len(scored) < arguments.evaluations:
        count = min(config.search.batch, arguments.evaluations - len(scored))
        batch = [proposer.ask() for _ in range(count)]
        rows = np.array([codes.codes(candidate) for candidate in batch])
        means, deviations = sampler.expectation.predict(quality.metric, rows)
        for candidate, mean, deviation in zip(batch, means, deviations, strict=True):
            found = evaluated(workbench, candidate, len(scored))
            lost = quality.loss(found.metrics[quality.metric]) - origin
            if len(scored) >= arguments.first:
                inside.append(abs(lost - mean) <= _DEVIATIONS * deviation)
                widths.append(2 * _DEVIATIONS * deviation)
            scored.append(found)
            proposer.learn(found)
            print(
                f"{found.key}: {mean:.4f} ± {deviation:.4f} of {quality.metric} lost, {lost:.4f}"
            )
    volume = hypervolume(front_of(scored, goals, workbench.rungs[0]), worst)
    print(
        f"{np.mean(inside):.1%} of {len(inside)} scores in their 90 % intervals, {np.mean(widths):.4f} "
        f"wide in the mean; hypervolume {volume:.4f} at {len(scored)} evaluations"
    )


if __name__ == "__main__":
    main()
