"""What the end of a run changes for others: breakers, messages, the log, and who waited for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.healing import outcomes
from receiver.journal import Journal, Transaction
from receiver.policy.breaker import BreakerState
from receiver.policy.guards.reasons import PASSED_ON, Wake, woken_by
from receiver.policy.guards.situation import Reason
from receiver.policy.run import FAILURES, Doubt, Outcome, Run
from receiver.policy.target import Key
from receiver.reporting.metrics import HEALS, Metrics

log: Final = logging.getLogger("promheal.healing")


class Aftermath:
    def __init__(
        self,
        *,
        journal: Journal,
        metrics: Metrics,
        clock: Clock,
        config: Callable[[], Config],
        wake: Callable[[Key], None],
        ended: Callable[[Run], None] = lambda _: None,
    ) -> None:
        """*ended* is called with each run that has ended here, once that is committed."""
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._config = config
        self._wake = wake
        self._ended = ended

    def finish(
        self,
        transaction: Transaction,
        run: Run,
        outcome: Outcome,
        reason: str,
        *,
        doubt: Doubt | None = None,
        forgets_at: float | None = None,
    ) -> Run:
        """End *run* in *transaction*; `released` follows once that is committed."""
        now = self._clock()
        transaction.count(HEALS.name, run.strategy, outcome)
        failure = outcome in FAILURES
        if run.acted_at is not None:
            failure = outcomes.end(transaction, self._config(), run, outcome, now, doubt=doubt)
        if (failure or doubt is Doubt.UNASKED) and self._config().settings.notify.tells:
            transaction.put_message(run.id, "ended")
        return transaction.finish(run, outcome, reason, now=now, doubt=doubt, forgets_at=forgets_at)

    def released(self, run: Run) -> None:
        """Log the end of *run*, and wake who waited for its target or its slot."""
        assert run.finished_at is not None
        if run.acted_at is not None:
            self._metrics.observe(self._metrics.heal_duration, run, run.finished_at - run.acted_at)
        if run.outcome is Outcome.HEALED and run.plan is not None:
            since = float(run.plan.alert["starts_at"])
            self._metrics.observe(self._metrics.alert_to_clear, run, run.finished_at - since)
        good = run.outcome in {Outcome.HEALED, Outcome.CANCELLED}
        log.log(
            logging.INFO if good else logging.WARNING,
            "run ended: %s",
            run.outcome,
            extra={
                "run": run.id,
                "strategy": run.strategy,
                "target": run.target,
                "outcome": str(run.outcome),
                "reason": run.reason,
            },
        )
        for key in self._journal.read(lambda t: _concerned(t, run)):
            self._wake(key)
        for reason in PASSED_ON:
            self.pass_on(reason)
        self._ended(run)

    def pass_on(self, reason: Reason = Reason.CONCURRENCY) -> None:
        """Wake the run that has waited longest because of *reason*."""
        key = self._journal.read(lambda t: t.next_pending(reason))
        if key is not None:
            self._wake(key)


def _concerned(transaction: Transaction, run: Run) -> list[Key]:
    """Return whom the end of *run* concerns; log the breakers that opened, and dormancy."""
    concerned = transaction.pending_on(run.target)
    transitions = transaction.transitions(run=run.id)
    for one in transitions:
        if one.happening.at == run.finished_at and one.state is not BreakerState.CLOSED:
            log.warning("breaker %s", one.state, extra={"breaker": one.breaker, "run": run.id})
    if transitions:  # a trial has ended, or there is nothing to wait for any more
        for reason in woken_by(Wake.TRIAL):
            concerned += transaction.pending_for(reason)
    dormancy = transaction.dormancy()
    if dormancy.since is not None and dormancy.since == run.finished_at:
        log.error("dormant: nothing acts until a person resumes it; %s", dormancy.reason)
    return concerned
