"""Decides on one target in one transaction, and writes down what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final

import msgspec

from receiver.clock import Clock
from receiver.healing import outcomes
from receiver.healing.aftermath import Aftermath
from receiver.healing.asked import Asked, Case
from receiver.healing.choice import MOST
from receiver.healing.facts import Facts
from receiver.healing.plan import Planned
from receiver.healing.relapse import relapsed
from receiver.healing.steps import Opening
from receiver.journal import EVERYTHING, Episode, Extent, Transaction
from receiver.journal.inputs import pack
from receiver.policy.decide import Decision, decide
from receiver.policy.guards.reasons import OVER
from receiver.policy.guards.situation import Answer, Reason, Situation, Verdict
from receiver.policy.life import Effect, LifeEvent, transition
from receiver.policy.run import Plan, Run, State
from receiver.policy.signal import Signal
from receiver.policy.target import Key
from receiver.reporting.metrics import DECISIONS

log: Final = logging.getLogger("promheal.reconciler")

_EVENTS: Final = {
    Answer.ALLOW: LifeEvent.ALLOWED,
    Answer.WAIT: LifeEvent.POSTPONED,
    Answer.DENY: LifeEvent.DENIED,
}


class Settled(msgspec.Struct, frozen=True):
    """What was decided, and written down."""

    verdict: Verdict
    run: Run | None
    news: bool
    """It is not what was decided the last time."""

    def tell(self, key: Key) -> None:
        """Log what is news, now that it is on the disk."""
        if not self.news:
            return
        verdict = self.verdict
        log.info(
            "decided",
            extra={
                "strategy": key.strategy,
                "target": key.target,
                "verdict": str(verdict.answer),
                "reason": str(verdict.reason or ""),
                "until": verdict.until,
                "detail": verdict.detail,
                "run": None if self.run is None else self.run.id,
            },
        )


class Unsettled(Enum):
    """Why nothing was decided, and nothing written."""

    ASK = "ask"
    """What was in the way while we asked has gone, and questions that did not matter now matter; or
    the alert that was asked about has ended, and others still ask."""
    COUNT = "count"
    """What follows is counted over several targets: the extent must be everything."""


class Settling:
    def __init__(self, *, aftermath: Aftermath, facts: Facts, clock: Clock) -> None:
        self._aftermath = aftermath
        self._facts = facts
        self._clock = clock

    def settle(
        self,
        transaction: Transaction,
        case: Case,
        asked: Asked,
        planned: Planned,
        healed_at: float | None,
        opening: Opening | None,
        extent: Extent,
    ) -> Settled | Unsettled:
        """Decide on the history as it is now, and write down what follows from it.

        *healed_at* is when the target was last proven healed. *opening* writes the first step down
        with a run that begins. *extent* is that of the transaction.
        """
        # An alert that came while we asked has waked us once more; now nothing is planned for it.
        those = () if planned == Planned() else asking(transaction, case)
        asked_of = None if asked.episode is None else asked.episode.id
        episode = next((each for each in those if each.id == asked_of), None)
        if episode is None and those:
            return Unsettled.ASK
        run = transaction.unfinished(case.key)
        # Before the breakers are read, which may open of it.
        unheld = self._relapsed(transaction, case, episode, asked, healed_at)
        if unheld is not None:
            if extent is not EVERYTHING:
                return Unsettled.COUNT
            self._note_relapse(transaction, case, unheld)
        situation = self._facts.situation(
            transaction,
            case,
            episode,
            run,
            asked,
            runs_on=planned.runs_on,
            fault=planned.fault,
        )
        now = situation.now
        decision = decide(situation)
        if decision.verdict.answer is Answer.ALLOW:
            if not asked.complete:
                return Unsettled.ASK
            if extent is not EVERYTHING:
                return Unsettled.COUNT
        run = self._follow(transaction, case, episode, run, planned, decision.verdict, now, opening)
        news = _record(transaction, case, situation, decision, run)
        for cleared in asked.cleared:
            transaction.clear(cleared, now=now)
        over = set(asked.over)
        if episode is not None and decision.verdict.reason in OVER:
            over.add(episode.id)
        for each in sorted(over):  # now that the decision has named it
            transaction.give_up(before=now - situation.bounds.stale_after, episode=each)
        return Settled(decision.verdict, run, news)

    def _follow(
        self,
        transaction: Transaction,
        case: Case,
        episode: Episode | None,
        run: Run | None,
        planned: Planned,
        verdict: Verdict,
        now: float,
        opening: Opening | None,
    ) -> Run | None:
        """Do to the run what follows from a verdict on *episode*, and return it."""
        change = transition(State.PENDING, _EVENTS[verdict.answer])
        match change.state:
            case State.ACTING:
                assert episode is not None  # `current` denies without an alert
                run = _begin(transaction, case, episode, run, planned.plan, now)
                outcomes.begin(transaction, run)
                if planned.fault:
                    failed = transition(run.state, LifeEvent.UNPLANNABLE).end
                    run = self._aftermath.finish(transaction, run, failed, planned.fault)
                elif Effect.BEGIN_STEP in change.effects and opening is not None:
                    run = opening.begin(transaction, run)
            case State.PENDING:
                assert episode is not None
                known = None if run is None else run.asked_at
                run = _pend(transaction, case, episode, run, verdict, now)
                if run.asked_at != known and case.config.settings.notify.tells:
                    transaction.put_message(run.id, "asked")
            case _:
                if verdict.reason is Reason.APPROVAL_EXPIRED:
                    transaction.put_veto(case.key, by="promheal", reason=verdict.detail, now=now)
                if run is not None:
                    why = verdict.detail if episode else _evidence(transaction, run, verdict)
                    evidence = f"{verdict.reason}: {why}"
                    run = self._aftermath.finish(transaction, run, change.end, evidence)
        return run

    def _relapsed(
        self,
        transaction: Transaction,
        case: Case,
        episode: Episode | None,
        asked: Asked,
        healed_at: float | None,
    ) -> Run | None:
        """Return the run whose heal has not held, if that is not known yet."""
        if episode is None or healed_at is None:
            return None
        within, now = case.strategy.verify.relapse, self._clock()
        firing = [(episode, asked.upstream.signal if asked.answered else Signal.UNKNOWN)]
        firing += [(each.episode, Signal.FIRING) for each in asked.also]
        if min(now, *(each.first_seen for each, _ in firing)) - healed_at >= within:
            return None
        healed = transaction.last_heal(case.key)
        if healed is None or not any(
            relapsed(healed, each, signal, within, now) for each, signal in firing
        ):
            return None
        return healed

    def _note_relapse(self, transaction: Transaction, case: Case, healed: Run) -> None:
        outcomes.relapse(transaction, case.config, healed, self._clock())
        log.warning(
            "a heal did not hold",
            extra={"run": healed.id, "strategy": healed.strategy, "target": healed.target},
        )


def _record(
    transaction: Transaction,
    case: Case,
    situation: Situation,
    decision: Decision,
    run: Run | None,
) -> bool:
    key, verdict = case.key, decision.verdict
    transaction.count(DECISIONS.name, key.strategy, verdict.answer, str(verdict.reason or ""))
    return transaction.record(
        key,
        decision,
        run=None if run is None else run.id,
        now=situation.now,
        config_hash=case.config.hash,
        inputs=pack(situation),
    )


def asking(transaction: Transaction, case: Case) -> Sequence[Episode]:
    """Return as many of the alerts that ask as matter, and one to know that there are more.

    After a reload, what asked by an earlier configuration does not until it is matched anew.
    """
    if not case.config.settings.flags.auto_detection:
        return ()
    return [
        episode
        for episode in transaction.asking(case.key, limit=MOST + 1)
        if case.strategy.selects(episode.alert, case.target)
    ]


def _begin(
    transaction: Transaction,
    case: Case,
    episode: Episode,
    pending: Run | None,
    plan: Plan | None,
    now: float,
) -> Run:
    config_hash = case.config.hash
    if pending is None:
        return transaction.open_run(
            case.key, State.ACTING, episode=episode, now=now, plan=plan, config_hash=config_hash
        )
    return transaction.change(
        pending,
        State.ACTING,
        reason="",
        until=None,
        acted_at=now,
        plan=plan,
        config_hash=config_hash,
    )


def _pend(
    transaction: Transaction,
    case: Case,
    episode: Episode,
    pending: Run | None,
    verdict: Verdict,
    now: float,
) -> Run:
    reason, until = str(verdict.reason), verdict.until
    if pending is None:
        pending = transaction.open_run(
            case.key, State.PENDING, episode=episode, now=now, reason=reason, until=until
        )
    asked_at = pending.asked_at
    if verdict.reason is Reason.AWAITING_APPROVAL and asked_at is None:
        asked_at = now
    return transaction.change(pending, State.PENDING, reason=reason, until=until, asked_at=asked_at)


def _evidence(transaction: Transaction, run: Run, verdict: Verdict) -> str:
    """Why a pending run is dropped: what was said, by whom and when."""
    episode = transaction.episode(run.episode)
    if episode is None or episode.alert.ends_at is None:
        return verdict.detail
    ended = datetime.fromtimestamp(episode.alert.ends_at, UTC).isoformat(timespec="milliseconds")
    return f"{episode.sender or 'the sender'} said that it ended at {ended}"
