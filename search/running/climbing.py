"""The rungs after the first: the leading candidates rescored, or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.coordinator import Coordinator, Engine
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.jobs import Job
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.promoting.promotion import Promotion
from paredown.search.running.ascent import Ascent
from paredown.search.running.engines.trial import longest_s
from paredown.search.running.ledger import Ledger
from paredown.search.running.working import Progress, work
from paredown.search.study.evaluation import Evaluation, Failure, of_rung
from paredown.search.study.rung import Rung


@dataclass(frozen=True, kw_only=True)
class Climb:
    """From rung to rung: the leading candidates of each, as `Ascent` decides, on the one after it.

    Only what is scored on the whole search split makes the final front: scores of other rows are never
    compared with it.
    """

    workbench: Workbench
    engine: Engine
    ledger: Ledger
    base: Evaluation
    terms: DamageTerms
    outlook: Outlook
    watch: Progress

    def carry_out(self) -> str | None:
        """Climbs all rungs; why it stopped early, or None."""
        ledger, section, rungs = self.ledger, self.workbench.config.search, self.workbench.rungs
        own = of_rung(ledger.evaluations, rungs[0])
        first = [e for e in own if not e.is_failed]
        promotion = Promotion(first, ledger.goals, self.base, self.terms, self.outlook)
        self._enter(rungs[1])
        ascent = Ascent(promotion, rungs[1:], self.workbench.kept_of)
        jobs = ascent.begin()
        self.watch.started(len(own) + len(jobs) + ascent.coming)
        growth = len(self.workbench.task.splits.search) / section.rung_images
        done = {r.number: ledger.settled(r.untrained) | ledger.settled(r) for r in rungs[1:]}

        def _follow(evaluation: Evaluation) -> Sequence[Job]:
            following = ascent.follow(evaluation)
            over = ascent.over
            if over is not None and over.number > ledger.front.rung.number:
                self._leave(over)
                if over != rungs[-1]:
                    self._enter(rungs[over.number + 1])
            return following

        coordinator = Coordinator(
            proposer=None,
            first=jobs,
            evaluations=len(jobs),
            batch=1,
            rung=rungs[-1],
            tell=ledger.tell,
            # How long training takes is not known from scoring.
            longest_s=lambda: (
                None if self.workbench.is_trained else longest_s(section, first, growth)
            ),
            follow=_follow,
            known=lambda job: done[job.rung.number].get(job.candidate.key),
            again=self._notice_loss,
        )
        work(self.engine, coordinator)
        if coordinator.stopped is None and ledger.front.rung != rungs[-1]:
            self._leave(rungs[-1])
        return coordinator.stopped

    def _notice_loss(self, job: Job, failure: Failure) -> None:
        self.watch.notice(
            f"a worker was lost that trained {job.candidate.key}: {failure.sentence}; another one goes "
            "on from where the training was saved"
        )

    def _leave(self, rung: Rung) -> None:
        ledger, recovering = self.ledger, self.workbench.evaluator.recovery
        ledger.use_rung(rung)
        if recovering is not None and not ledger.lost(rung):
            recovering.tidy(rung, ledger.evaluations, ledger.front.members)

    def _enter(self, rung: Rung) -> None:
        how = f"training to {rung.recipe.steps:,} steps" if rung.recipe.is_trained else "rescoring"
        self.watch.stage(f"{how}: the leading candidates, on the whole search split")
