"""A bench from its config to its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paredown.search.config.schema import Config
from paredown.search.evaluating.bounds import absolute_goals, refuse_unreachable
from paredown.search.evaluating.computing_device import computing_device, prepare_process
from paredown.search.evaluating.rehearsal import rehearse
from paredown.search.evaluating.surveying import survey
from paredown.search.evaluating.workbench import Workbench, equip
from paredown.search.proposing.jobs import Job
from paredown.search.proposing.optuna_log import quiet_optuna
from paredown.search.proposing.samplers import check_sampler
from paredown.search.running.benching.arm import Arm
from paredown.search.running.benching.arms import arms_of, chosen
from paredown.search.running.benching.contests import Contest, Listener, succeeded
from paredown.search.running.benching.outcomes import Known, OutcomeFile, problem_digest
from paredown.search.running.benching.result import BenchResult, Run, best_known, volumes_of
from paredown.search.running.engines.engine_local import local_engine
from paredown.search.running.engines.trial import carry_out
from paredown.search.running.ledger import evaluation_of
from paredown.search.space.found_ranks import write_ranks
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal
from paredown.search.study.journal import hold
from paredown.search.study.pareto import Front
from paredown.search.study.run_record import LATENCY, RANKS
from paredown.search.tasks.cache import check_cache

OUTCOMES = "outcomes.jsonl"
"""In the bench's folder: everything that was ever evaluated for it."""


class Watcher(Listener, Protocol):
    """Is notified how a bench goes."""

    def stage(self, text: str) -> None:
        """The bench enters the stage described by `text`."""

    def notice(self, text: str) -> None:
        """Something that the user should know."""

    def planned(self, runs: int, evaluations: int, goals: tuple[Goal, ...]) -> None:
        """So many runs are coming, of at most so many evaluations together."""

    def finished(self, run: Run) -> None:
        """A run is over."""


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """What is compared: arms by glob patterns, seeds from the config's on, and budgets of evaluations.

    `folder` keeps what was evaluated and takes the tables; `pool` is the file of the best known front.
    """

    folder: Path
    pool: Path | None = None
    arms: tuple[str, ...] = ()
    seeds: int = 3
    budgets: tuple[int, ...] = ()


def bench(config: Config, plan: BenchPlan, watch: Watcher) -> BenchResult:
    """Carries all arms out; where Ctrl-C ends it, what the runs that are over gave.

    Raises:
        ParedownError: What is asked for cannot be had.
    """
    config = _without_recovery(config, watch)
    lock = hold(plan.folder / OUTCOMES)
    try:
        with quiet_optuna():
            return _carry_out(config, plan, watch)
    finally:
        lock.release()


def _without_recovery(config: Config, watch: Watcher) -> Config:
    if config.recovery is None:
        return config
    watch.notice("recovery is left out: arms are compared on the first rung, before any training")
    return config.model_copy(update={"recovery": None})


def _carry_out(config: Config, plan: BenchPlan, watch: Watcher) -> BenchResult:
    workbench, arms = _prepared(config, plan, watch)
    rung, problem = workbench.rungs[0], problem_digest(workbench)
    file = OutcomeFile(plan.folder / OUTCOMES, problem, rung)
    pool = None if plan.pool is None else OutcomeFile(plan.pool, problem, rung)
    if pool is not None and pool.others:
        watch.notice(
            f"{pool.others} lines of {plan.pool} are about another network, metric or other rows, and "
            "do not count"
        )
    watch.stage("scoring the references")
    base = _uncompressed(workbench, file)
    goals = absolute_goals(config.goals, base.metrics)
    with local_engine(workbench.evaluator, config.search) as engine:
        contest = Contest(workbench, goals, base, engine, file, watch)
        worst = contest.worst
        watch.stage("comparing")
        runs, is_whole = _until_interrupted(_runs(contest, arms, plan, watch))
    known = dict(file.known) if pool is None else {**pool.known, **file.known}
    front, volume = best_known([contest.evaluated(each) for each in known.values()], goals, worst)
    joined = 0 if pool is None else _widen(pool, front, known)
    return BenchResult(
        name=config.name,
        goals=goals,
        rows=contest.rows,
        reference=tuple(worst.tolist()),
        arms=arms,
        runs=runs,
        best_volume=volume,
        best_members=len(front.members),
        known=len(known),
        joined=joined,
        is_whole=is_whole,
    )


def _prepared(
    config: Config, plan: BenchPlan, watch: Watcher
) -> tuple[Workbench, tuple[Arm, ...]]:
    """The workbench, and the arms that were asked for."""
    check_cache()
    prepare_process(computing_device(config.search), config.search.threads_per_worker)
    watch.stage("reading the model")
    surveyed = survey(config, plan.folder / RANKS)
    for notice in surveyed.task.notices:
        watch.notice(notice)
    arms = chosen(arms_of(surveyed.space, config.search.sampler), plan.arms)
    check_sampler(config, surveyed.space)
    refuse_unreachable(surveyed)
    watch.stage("trying model, metric and loss on the search split")
    rehearse(config, surveyed.task)
    watch.stage("collecting statistics, timing sample networks")
    workbench = equip(surveyed, plan.folder / LATENCY)
    if workbench.ranks.to_json():
        write_ranks(plan.folder / RANKS, workbench.ranks)
    return workbench, arms


def _uncompressed(workbench: Workbench, file: OutcomeFile) -> Evaluation:
    """The uncompressed model's evaluation, which relative bounds and qualities refer to."""
    candidate = workbench.uncompressed()
    rung = workbench.rungs[0]
    job = Job(candidate=candidate, kind="reference", label=UNCOMPRESSED, rung=rung)
    if candidate.key not in file.known:
        file.add(candidate, carry_out(workbench.evaluator, job))
    found = evaluation_of(workbench, job, file.known[candidate.key].outcome, 0)
    return succeeded(found)


def _until_interrupted(coming: Iterator[Run]) -> tuple[tuple[Run, ...], bool]:
    """The runs that came, and whether that is all of them."""
    runs: list[Run] = []
    try:
        runs.extend(coming)
    except KeyboardInterrupt:
        if not runs:
            raise
        return tuple(runs), False
    return tuple(runs), True


def _runs(contest: Contest, arms: Sequence[Arm], plan: BenchPlan, watch: Watcher) -> Iterator[Run]:
    """Each budget of each seed of each arm in turn."""
    section = contest.workbench.config.search
    budgets = plan.budgets or (section.evaluations,)
    seeds = range(section.seed, section.seed + plan.seeds)
    total = len(arms) * len(seeds)
    watch.planned(total * len(budgets), total * sum(budgets), contest.goals)
    for seed in seeds:
        for arm in arms:
            for budget in sorted(budgets):
                history = arm.carry_out(contest, seed, budget)
                volumes = volumes_of(history, contest.goals, contest.worst)
                run = Run(arm=arm.name, seed=seed, budget=budget, history=history, volumes=volumes)
                watch.finished(run)
                yield run


def _widen(pool: OutcomeFile, front: Front, known: Mapping[str, Known]) -> int:
    """Members of the best known front that the pool did not hold, which it holds now."""
    joining = [known[m.key] for m in front.members if m.key not in pool.known]
    for each in joining:
        pool.add(each.candidate, each.outcome)
    return len(joining)
