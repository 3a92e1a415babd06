"""What may a person change? Pauses, dormancy, breakers, approvals and runs; each with who and why.

Every change is written down in the transaction that makes it, in the audit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.errors import RefusedError
from receiver.healing import outcomes
from receiver.healing.aftermath import Aftermath
from receiver.healing.coverage import coverage
from receiver.healing.known import Known
from receiver.healing.operands import (
    Paused,
    Resumed,
    awaiting_approval,
    breaker_meant,
    meant_by,
    not_paused,
    pauses_of,
    run_meant,
)
from receiver.journal import OWN, Journal, Transaction
from receiver.policy.breaker import MAIN, Breaker, BreakerState
from receiver.policy.dormancy import AWAKE
from receiver.policy.life import CANCELLABLE, LifeEvent, transition
from receiver.policy.line import is_line
from receiver.policy.run import Run, State
from receiver.policy.scope import (
    ALL,
    EVERYWHERE,
    TARGET,
    Scope,
)
from receiver.policy.target import Key
from receiver.yaml.diagnostics import nearest, quoted, suggestion

log: Final = logging.getLogger("promheal.control")

MAX_REASON: Final = 500
"""Characters of a reason."""


class Control:
    """Every method raises RefusedError when it cannot be done, and JournalError; then nothing is.

    *by* is who wants it: the name that access control gave them.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        aftermath: Aftermath,
        clock: Clock,
        config: Callable[[], Config],
        wake: Callable[[Key], None],
        resync: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._aftermath = aftermath
        self._clock = clock
        self._config = config
        self._wake = wake
        self._resync = resync

    def pause(
        self,
        *,
        by: str,
        reason: str,
        scope: str = ALL,
        seconds: float | None = None,
        even_if_unknown: bool = False,
    ) -> Paused:
        """Let nothing begin in *scope*: `all`, `strategy:NAME` or `target:NAME`.

        What covers nothing that is known is refused, unless *even_if_unknown*.
        """
        reason = checked_reason(reason)
        meant = meant_by(scope)
        known = self._known(meant)
        meant = known.recognise(meant, even_if_unknown=even_if_unknown)
        now = self._clock()
        until = None if seconds is None else now + seconds

        def write(transaction: Transaction) -> Paused:
            transaction.put_audit("pause", meant.text, by=by, reason=reason, now=now)
            return Paused(
                transaction.put_pause(meant.text, reason=reason, by=by, now=now, until=until),
                coverage(
                    meant,
                    known.strategies_of(meant),
                    transaction.firing(),
                    transaction.unfinished_runs(),
                ),
            )

        paused = self._journal.atomically(write)
        _tell("paused", by, reason, scope=meant.text, until=until)
        return paused

    def resume(self, *, by: str, reason: str, scope: str = ALL) -> Resumed:
        """End the pauses of *scope*; `all` also ends dormancy, and resets the main breaker.

        What is paused on its own stays so.
        """
        meant = meant_by(scope)
        reason = checked_reason(reason)
        now = self._clock()

        def write(transaction: Transaction) -> Resumed:
            standing = transaction.pauses(now=now)
            ended = pauses_of(standing, meant)
            woken = meant is EVERYWHERE and transaction.dormancy().since is not None
            if woken:
                transaction.put_dormancy(AWAKE)
                outcomes.reset(transaction, MAIN, now)
            if not woken and not ended:
                self._check_strategy(meant.strategy)
                raise not_paused(meant, standing)
            for each in {pause.scope for pause in ended}:
                transaction.lift_pauses(each, now=now)
            transaction.put_audit(
                "resume",
                ended[0].scope if ended else meant.text,
                by=by,
                reason=reason,
                now=now,
                detail=", ".join([f"pause {pause.id}" for pause in ended] + ["dormancy"] * woken),
            )
            return Resumed(woken, ended, tuple(one for one in standing if one not in ended))

        resumed = self._journal.atomically(write)
        _tell("resumed", by, reason, scope=meant.text, dormancy_ended=resumed.dormancy_ended)
        self._resync()
        return resumed

    def reset(
        self, written: str, *, by: str, reason: str = "", force: bool = False
    ) -> tuple[str, Breaker]:
        """Close a breaker; return its name and what it is then.

        That of a target may be written as in a scope. One that is open for good needs *force* and a
        reason.
        """
        reason = checked_reason(reason) if reason.strip(" ") else ""
        now = self._clock()

        def write(transaction: Transaction) -> tuple[str, Breaker]:
            known = transaction.breakers()
            name = breaker_meant(written, known)
            breaker = known.get(name)
            if breaker is None and name not in self.breaker_names():
                near = nearest(name, {*self.breaker_names(), *transaction.breakers()})
                hint = f"; did you mean {near!r}?" if near else ""
                said = f"no breaker {quoted(name)}{hint}"
                raise RefusedError(said, status=404, among="breakers")
            state = (breaker or Breaker()).state(now)
            if state is BreakerState.PERMANENT_OPEN and not (force and reason):
                raise RefusedError(
                    f"{name} is PERMANENT_OPEN: it needs force: true and a non-empty reason; "
                    "find out first why it kept failing",
                    status=409,
                )
            outcomes.reset(transaction, name, now)
            transaction.put_audit(
                "reset breaker", name, by=by, reason=reason, now=now, detail=f"was {state}"
            )
            return name, transaction.breaker(name)

        name, breaker = self._journal.atomically(write)
        _tell("breaker reset", by, reason, breaker=name)
        self._resync()
        return name, breaker

    def approve(self, run: int, *, by: str, reason: str) -> Run:
        """Say yes to a run that waits for it."""
        reason = checked_reason(reason)
        now = self._clock()

        def write(transaction: Transaction) -> Run:
            asking = awaiting_approval(transaction, run)
            transaction.put_audit("approve", f"run {run}", by=by, reason=reason, now=now)
            return transaction.change(asking, State.PENDING, approved_at=now)

        approved = self._journal.atomically(write)
        _tell("approved", by, reason, run=run)
        self._wake(Key(approved.strategy, approved.target))
        return approved

    def reject(self, run: int, *, by: str, reason: str) -> Run:
        """Say no to a run that waits, and to all that fires for its target and strategy now."""
        reason = checked_reason(reason)

        def write(transaction: Transaction) -> Run:
            asking = awaiting_approval(transaction, run)
            return self._end_pending(transaction, asking, "reject", by=by, reason=reason)

        rejected = self._journal.atomically(write)
        _tell("rejected", by, reason, run=run)
        self._aftermath.released(rejected)
        return rejected

    def cancel(self, run: int, *, by: str, reason: str) -> Run:
        """End a run: at once while it waits to begin, else before its next step, undoing it.

        An action in hand ends first. What fires now is left alone until it fires anew.
        """
        reason = checked_reason(reason)
        now = self._clock()

        def write(transaction: Transaction) -> Run:
            found = run_meant(transaction, run)
            if found.state is State.PENDING:
                return self._end_pending(transaction, found, "cancel", by=by, reason=reason)
            if found.state not in CANCELLABLE:
                raise RefusedError(
                    f"run {run} is {found.outcome or found.state} and cannot be cancelled",
                    status=409,
                )
            if found.cancel:
                raise RefusedError(f"run {run} is being cancelled already", status=409)
            transaction.put_audit("cancel", f"run {run}", by=by, reason=reason, now=now)
            transaction.put_veto(Key(found.strategy, found.target), by=by, reason=reason, now=now)
            transaction.ask_cancel(run, f"cancelled by {by}: {reason}")
            return run_meant(transaction, run)

        cancelled = self._journal.atomically(write)
        _tell("cancelled", by, reason, run=run)
        if cancelled.outcome is not None:
            self._aftermath.released(cancelled)
        else:
            self._wake(Key(cancelled.strategy, cancelled.target))
        return cancelled

    def note(self, action: str, object_: str, *, by: str, reason: str, detail: str = "") -> None:
        """Write down a change that the journal itself does not hold: of the background tasks."""
        if reason.strip(" "):
            reason = checked_reason(reason)
        now = self._clock()
        self._journal.atomically(
            lambda t: t.put_audit(action, object_, by=by, reason=reason, now=now, detail=detail),
            OWN,
        )
        _tell(action, by, reason, object=object_)

    def breaker_names(self) -> list[str]:
        """Return the breakers that there always are."""
        return [MAIN, *(f"strategy:{name}" for name in self._config().strategies.names)]

    def _end_pending(
        self, transaction: Transaction, run: Run, action: str, *, by: str, reason: str
    ) -> Run:
        now = self._clock()
        transaction.put_audit(action, f"run {run.id}", by=by, reason=reason, now=now)
        transaction.put_veto(Key(run.strategy, run.target), by=by, reason=reason, now=now)
        ended = transition(run.state, LifeEvent.CANCELLED)
        done = "rejected" if action == "reject" else "cancelled"
        return self._aftermath.finish(transaction, run, ended.end, f"{done} by {by}: {reason}")

    def _check_strategy(self, name: str) -> None:
        strategies = self._config().strategies
        if name and strategies.get(name) is None:
            hint = suggestion(name, strategies.names)
            raise RefusedError(f"no strategy {quoted(name)}{hint}", status=404)

    def _known(self, scope: Scope) -> Known:
        """Return what *scope* may mean."""
        config = self._config()
        targets: list[str] = []
        if scope.text.startswith(TARGET):
            targets = self._journal.read(lambda t: t.known_targets())
        return Known(
            strategies=config.strategies,
            services=config.inventory.names,
            targets=tuple(sorted(targets)),
        )


def checked_reason(reason: str) -> str:
    """Return *reason* without blanks around it. Raises RefusedError for none, or a bad one."""
    reason = reason.strip(" ")
    if not reason.strip():
        raise RefusedError("reason: say why, for those who read the audit later", status=400)
    if len(reason) > MAX_REASON or not is_line(reason):
        raise RefusedError(f"reason: one line of up to {MAX_REASON} characters", status=400)
    return reason


def _tell(what: str, by: str, reason: str, **about: object) -> None:
    log.warning("%s by an operator", what, extra={"by": by, "reason": reason, **about})
