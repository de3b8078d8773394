"""The first rung of a search: candidates proposed and scored."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.samplers import BaseSampler

from paredown.search.calibrating.drawing import uniform
from paredown.search.evaluating.bounds import cheapest_within, refused_by
from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.coordinator import Coordinator, Engine
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.given import Given, initial_candidates
from paredown.search.proposing.jobs import Job
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.of_search import pareto_sampler
from paredown.search.proposing.proposer import Proposer
from paredown.search.proposing.samplers import make_sampler
from paredown.search.running.engines.trial import longest_s
from paredown.search.running.ledger import Ledger
from paredown.search.running.working import Progress, work
from paredown.search.study.evaluation import UNIFORM_8_BIT, Evaluation, Goal, of_rung
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

UNIFORM_4_BIT = "uniform 4-bit"
_LITTLE = 1e-3
"""Growth of the hypervolume, as a share, that is not worth waiting for."""


def explore(
    workbench: Workbench,
    engine: Engine,
    ledger: Ledger,
    base: Evaluation,
    terms: DamageTerms,
    outlook: Outlook,
    initial: Path,
    watch: Progress,
) -> str | None:
    """The first rung: candidates proposed and scored; why it stopped early, or None.

    Args:
        outlook: What training is expected to give back of the quality that they lose.
        initial: File of the candidates to begin with, if there is one.
    """
    section = workbench.config.search
    watch.stage("predicting damage and prices for the warm start")
    budget_s = section.time_budget_s
    first_rung = _FirstRung(
        workbench=workbench,
        ledger=ledger,
        base=base,
        terms=terms,
        outlook=outlook,
        initial=initial,
        deadline_s=None if budget_s is None else time.monotonic() + budget_s,
    )
    coordinator = first_rung.replayed()
    if coordinator is None:
        watch.stage("going on with what is known: an uninterrupted search would ask otherwise")
        coordinator = first_rung.informed()
    watch.started(max(section.evaluations, 1 + len(reference_jobs(workbench))))
    watch.stage("searching: layers are solved as candidates ask for them")
    work(engine, coordinator)
    assert coordinator.proposer is not None
    ledger.over_bound = sum(coordinator.proposer.over_bound.values())
    return coordinator.stopped


@dataclass(frozen=True, kw_only=True)
class _FirstRung:
    """Makes the coordinator of the first rung, behind whatever earlier sessions evaluated."""

    workbench: Workbench
    ledger: Ledger
    base: Evaluation
    terms: DamageTerms
    outlook: Outlook
    initial: Path
    deadline_s: float | None

    @property
    def rung(self) -> Rung:
        """What candidates are scored on."""
        return self.workbench.rungs[0]

    def replayed(self) -> Coordinator | None:
        """The coordinator exactly where the earlier session stood, all of its questions asked again.

        None where that cannot be: what Ray asks depends on what finishes first, lost candidates
        are asked again out of turn, and other settings ask for other candidates.
        """
        uncompressed, *earlier = of_rung(self.ledger.evaluations, self.rung)
        section = self.workbench.config.search
        is_over = len(earlier) + 1 >= section.evaluations
        is_exact = section.engine == "local" and not any(e.is_lost for e in earlier)
        if earlier and (is_over or not is_exact):
            return None
        references = reference_jobs(self.workbench)
        coordinator = self._coordinator([uncompressed], references)
        return coordinator if coordinator.replay(earlier) else None

    def informed(self) -> Coordinator:
        """A coordinator that begins anew, its proposer informed of all that was evaluated."""
        told = self.ledger.settled(self.rung)
        references = reference_jobs(self.workbench)
        first = [job for job in references if job.candidate.key not in told]
        first += [
            Job(candidate=e.candidate, kind=e.kind, label=e.label, rung=self.rung)
            for e in self.ledger.lost(self.rung).values()
        ]
        return self._coordinator(told.values(), first)

    def _coordinator(self, told: Collection[Evaluation], first: list[Job]) -> Coordinator:
        proposer = make_proposer(
            self.workbench,
            self.ledger.goals,
            self.base,
            self.terms,
            self.outlook,
            initial_candidates(self.initial),
        )
        for evaluation in told:
            proposer.learn(evaluation)
        section = self.workbench.config.search
        return Coordinator(
            proposer=proposer,
            first=first,
            evaluations=section.evaluations,
            batch=section.batch,
            rung=self.rung,
            tell=self.ledger.tell,
            told=len(told),
            enough=self._enough,
            deadline_s=self.deadline_s,
            longest_s=lambda: longest_s(section, of_rung(self.ledger.evaluations, self.rung)),
        )

    def _enough(self, told: int) -> str | None:
        """Why nothing more is proposed: `search.patience` is at its end. None while there is gain."""
        patience = self.workbench.config.search.patience
        volumes = self.ledger.hypervolumes[:told]
        if patience is None or len(volumes) <= patience or volumes[-1] == 0:
            return None
        if volumes[-1] - volumes[-1 - patience] > _LITTLE * volumes[-1]:
            return None
        return f"nothing was left to gain: {patience} evaluations let the hypervolume stand still"


def make_proposer(
    workbench: Workbench,
    goals: tuple[Goal, ...],
    base: Evaluation,
    terms: DamageTerms,
    outlook: Outlook,
    initial: Sequence[Candidate] = (),
) -> Proposer:
    """The proposer of a search, with the samplers that its config asks for.

    Args:
        outlook: As of `explore`.
        initial: Proposed first, in order.
    """

    def _refused(candidate: Candidate) -> str | None:
        return refused_by(workbench, goals, candidate)

    def _pareto() -> BaseSampler:
        return pareto_sampler(
            space=workbench.space,
            goals=goals,
            base=base,
            terms=terms,
            outlook=outlook,
            costs=workbench.costs,
            seed=workbench.config.search.seed,
        )

    sampler = make_sampler(workbench.config, workbench.space, _pareto)
    within = cheapest_within(workbench, goals)
    return Proposer(workbench.space, [Given(initial), sampler], _refused, within)


def reference_jobs(workbench: Workbench) -> list[Job]:
    """The uniform models that a search is held against, on the first rung."""
    name = workbench.space.architectures[0].name
    return [
        Job(
            candidate=uniform(workbench.space, name, bits),
            kind="reference",
            label=label,
            rung=workbench.rungs[0],
        )
        for bits, label in ((8, UNIFORM_8_BIT), (4, UNIFORM_4_BIT))
    ]
