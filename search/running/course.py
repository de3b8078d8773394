"""A search from its first evaluation to its report."""

from __future__ import annotations

import time
from pathlib import Path

from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.explaining.explainer import Explainer
from paredown.search.report.page import RunSummary
from paredown.search.running.climbing import Climb
from paredown.search.running.finish import (
    Account,
    export_front,
    known_outlook,
    log_pages,
    write_figures,
    write_pages,
)
from paredown.search.running.ledger import Ledger
from paredown.search.running.searching import explore
from paredown.search.running.timetable import keep_pace
from paredown.search.running.watching import Timed
from paredown.search.running.working import INTERRUPTED, open_engine
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.run_record import INITIAL, read_run


class Course:
    """One search from its first evaluation on, with what verifying its front has found so far."""

    def __init__(
        self,
        workbench: Workbench,
        ledger: Ledger,
        folder: Path,
        watch: Timed,
        started_s: float,
    ) -> None:
        self.checks: list[BundleCheck] = []
        self._workbench = workbench
        self._ledger = ledger
        self._folder = folder
        self._watch = watch
        self._started_s = started_s
        self._terms = DamageTerms(workbench.databases)
        self._explainer = Explainer(workbench.space, self._terms, workbench.costs)

    def finish(self, base: Evaluation) -> str | None:
        """Carries all of it out and closes the ledger; why the search stopped early, or None."""
        ledger = self._ledger
        try:
            ledger.start(base)
            stopped = self._carry_out(base)
            if stopped is None and (pace := self._watch.pace) is not None:
                keep_pace(self._workbench.config, pace)
            self._write(stopped)
            ledger.close("KILLED" if stopped == INTERRUPTED else "FINISHED")
        except BaseException as error:
            ledger.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        return stopped

    def _carry_out(self, base: Evaluation) -> str | None:
        """Searches, exports and verifies; why it stopped early, or None. Ctrl-C leaves what is known."""
        workbench, ledger, watch = self._workbench, self._ledger, self._watch
        try:
            terms, outlook = self._terms, known_outlook(workbench, ledger, self._folder)
            if workbench.config.search.engine == "ray":
                watch.stage("starting the workers")
            with open_engine(workbench) as engine:
                initial = self._folder / INITIAL
                stopped = explore(workbench, engine, ledger, base, terms, outlook, initial, watch)
                if stopped is not None:
                    watch.stage(f"stopped early: {stopped}")
                if len(workbench.rungs) > 1 and stopped != INTERRUPTED:
                    climb = Climb(
                        workbench=workbench,
                        engine=engine,
                        ledger=ledger,
                        base=base,
                        terms=terms,
                        outlook=outlook,
                        watch=watch,
                    )
                    stopped = climb.carry_out() or stopped
            if stopped == INTERRUPTED:
                return stopped
            # Before the export: however that ends, the search has its report.
            self._write_pages(stopped, ())
            total = len(ledger.front.members)
            watch.verifying(total)
            for done, check in enumerate(export_front(workbench, ledger, self._folder), 1):
                self.checks.append(check)
                watch.verified(check, done, total)
        except KeyboardInterrupt:
            return INTERRUPTED
        return stopped

    def _write(self, stopped: str | None) -> None:
        """The pages with all that is known now, in the folder and in MLflow."""
        self._watch.stage("writing the report")
        tracker = self._ledger.tracker
        # What is merely on its way to MLflow is not reported as missing there.
        tracker.drain()
        summary = self._write_pages(stopped, tracker.problems)
        pictures = write_figures(self._workbench, self._ledger, self._folder, self.checks)
        log_pages(tracker, self._folder, summary, pictures)

    def _write_pages(self, stopped: str | None, problems: tuple[str, ...]) -> RunSummary:
        # A resumed run that is interrupted again keeps the front it had: `paredown front` shows it.
        kept = read_run(self._folder).front
        if kept.members and self._ledger.front.rung != kept.rung:
            self._ledger.use_rung(kept.rung)
        notes = [*problems]
        if stopped is not None:
            notes.append(f"stopped early: {stopped}")
        workers = self._workbench.config.search.workers
        account = Account(
            explainer=self._explainer,
            duration_s=time.monotonic() - self._started_s,
            seconds=self._watch.seconds(self._ledger.evaluations, workers),
            told=notes,
        )
        checks = tuple(self.checks)
        return write_pages(self._workbench, self._ledger, self._folder, checks, account)
