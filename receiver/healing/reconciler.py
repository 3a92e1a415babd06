"""What is, what should be, and one step towards it: `consider(strategy, target)`.

A firing alert is a state. Whatever brings it up, a notification, a timer, the resync, a start after
a crash, comes through this one door: look at the journal, ask Prometheus, ask the guards, act,
verify, record, and say when to look again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.errors import ActionError
from receiver.healing import outcomes
from receiver.healing.choice import MOST, choose
from receiver.healing.execution import PASSED_ON, Healing
from receiver.healing.gathering import Asked, Case, Gathering, plan_for
from receiver.healing.relapse import relapsed
from receiver.journal import Episode, Journal, Transaction
from receiver.policy.alert import Alert
from receiver.policy.decide import Decision, decide
from receiver.policy.guards.situation import Answer, Reason, Signal, Situation, Verdict
from receiver.policy.role import EVERYWHERE, UNBOUND, ProcessRole
from receiver.policy.run import Outcome, Plan, Run, State
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key
from receiver.reporting.metrics import DECISIONS, Metrics, of_run
from receiver.settings import UndeclaredValues

log: Final = logging.getLogger("promheal.reconciler")


class _Planned(msgspec.Struct, frozen=True):
    """What would be done, or why it cannot be said."""

    plan: Plan | None = None
    fault: str = ""

    @property
    def runs_on(self) -> str:
        return UNBOUND if self.plan is None else self.plan.runs_on


class _Seen(msgspec.Struct, frozen=True):
    """What the journal says before anybody is asked."""

    run: Run | None
    episodes: Sequence[Episode] = ()
    """The alerts that ask, the one said last first."""
    situation: Situation | None = None
    """Of the first, if others would say what lets us act; None where there is nothing to decide."""


class _Settled(msgspec.Struct, frozen=True):
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


class WakeAll(Protocol):
    def __call__(self, keys: Iterable[Key], *, idle: bool = False) -> None: ...


WouldHave = Callable[[Key, Alert, Asked], None]
"""Is told of each alert that a server with --dry-run would have acted on."""


class Reconciler:
    def __init__(
        self,
        journal: Journal,
        healing: Healing,
        metrics: Metrics,
        clock: Clock,
        config: Callable[[], Config],
        wake_all: WakeAll,
        would_have: WouldHave = lambda *_: None,
        asked: Callable[[], None] = lambda: None,
        role: ProcessRole = EVERYWHERE,
    ) -> None:
        """*asked* is told when a run waits for a person's approval."""
        self._role = role
        self._asked = asked
        self._would_have = would_have
        self._journal = journal
        self._healing = healing
        self._gathering = Gathering(clock)
        self._metrics = metrics
        self._clock = clock
        self._config = config
        self._wake_all = wake_all
        self.last_consider = 0.0

    def consider(self, key: Key) -> float | None:
        """Do what can be done for one strategy on one target; return when to look again, or None.

        Never called for one target by two threads at once: the engine's lines see to it.
        """
        self.last_consider = self._clock()
        config = self._config()
        seen = self._journal.read(lambda transaction: self._see_all(transaction, config, key))
        if seen.run is None or seen.run.state is State.PENDING:
            # Who only executes steps leaves it to those who decide.
            return self._decide(key, config, seen) if self._role.decides else self._clock()
        return self._healing.carry(seen.run)

    def resync(self, *, idle: bool = False) -> None:
        """Bring up everything that fires and every run that is under way.

        *idle*: what has a time at which it is looked at may be left out, for nothing has changed.
        """
        self._wake_all(sorted(self._journal.read(lambda t: t.keys())), idle=idle)

    def weigh(self, strategy: Strategy, target: str, episodes: Sequence[Episode]) -> Decision:
        """Return what would be decided now for these alerts, without writing anything down."""
        case = Case(self._config(), strategy, target)
        seen = self._journal.read(lambda t: self._see(t, case, episodes))
        asked = choose(self._gathering, case, episodes, seen.situation)
        episode = asked.episode
        planned = _plan(case, episode, asked)

        def weighed(transaction: Transaction) -> Decision:
            run = transaction.unfinished(case.key)
            return decide(
                self._gathering.situation(
                    transaction,
                    case,
                    episode,
                    run,
                    asked,
                    runs_on=planned.runs_on,
                    fault=planned.fault,
                )
            )

        return self._journal.read(weighed)

    def _see_all(self, transaction: Transaction, config: Config, key: Key) -> _Seen:
        """Read at one moment all that is needed to know what to ask others."""
        run, strategy = transaction.unfinished(key), config.strategies.get(key.strategy)
        if run is not None and run.state is not State.PENDING:
            return _Seen(run)
        episodes = _asking(transaction, key)
        if strategy is None:
            return _Seen(run, episodes)
        return self._see(transaction, Case(config, strategy, key.target), episodes)

    def _see(self, transaction: Transaction, case: Case, episodes: Sequence[Episode]) -> _Seen:
        run = transaction.unfinished(case.key)
        if not episodes:
            return _Seen(run)
        situation = self._gathering.glance(transaction, case, episodes[0], run)
        return _Seen(run, episodes, situation)

    def _decide(self, key: Key, config: Config, seen: _Seen) -> float | None:
        strategy = config.strategies.get(key.strategy)
        pending = seen.run
        place = None if pending is None or pending.reason not in PASSED_ON else pending.reason
        if strategy is None:
            if pending is not None:
                self._drop(pending, "the strategy is not configured any more")
            if place is not None:
                self._healing.pass_on(Reason(place))
            return None
        if not seen.episodes and pending is None:
            self._healing.pass_on(Reason.STORM)  # one target fewer is ill
            return None
        case = Case(config, strategy, key.target)
        asked = choose(self._gathering, case, seen.episodes, seen.situation)
        episode = asked.episode
        planned = _plan(case, episode, asked)
        before = None if seen.situation is None else seen.situation.last_healed
        settled = self._journal.atomically(lambda t: self._settle(t, case, asked, planned, before))
        if settled is None:
            return self._clock()  # it may act now, and what was left unasked is asked first
        verdict = settled.verdict
        settled.tell(case.key)
        if place is not None and verdict.reason != place:
            # It did not take the place that it was woken for; or it did, and it was woken only once
            # for two that became free together. Whoever finds none ends the chain.
            self._healing.pass_on(Reason(place))
        if verdict.answer is Answer.ALLOW:
            assert settled.run is not None
            return self._act(settled.run)
        if settled.news and verdict.reason is Reason.AWAITING_APPROVAL:
            self._asked()
        if settled.news and verdict.reason is Reason.DRY_RUN and episode is not None:
            self._would_have(case.key, episode.alert, asked)
        return verdict.until

    def _settle(
        self,
        transaction: Transaction,
        case: Case,
        asked: Asked,
        planned: _Planned,
        healed_at: float | None,
    ) -> _Settled | None:
        """Decide on the history as it is now, and write down what follows from it.

        None, and nothing is written, when what was in the way while we asked has gone, since the
        questions that did not matter then matter now; and when the alert that it was asked about
        has ended meanwhile, and others still ask. *healed_at* is when the target was last proven
        healed.
        """
        # An alert that came while we asked has waked us once more; now nothing is planned for it.
        asking = () if planned == _Planned() else _asking(transaction, case.key)
        asked_of = None if asked.episode is None else asked.episode.id
        episode = next((each for each in asking if each.id == asked_of), None)
        if episode is None and asking:
            return None
        run = transaction.unfinished(case.key)
        # Before the breakers are read, which may open of it.
        self._note_relapse(transaction, case, episode, asked, healed_at)
        situation = self._gathering.situation(
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
        if decision.verdict.answer is Answer.ALLOW and not asked.complete:
            return None
        run = self._follow(transaction, case, episode, run, planned, decision.verdict, now)
        news = self._record(transaction, case.key, decision, run, now)
        for over in asked.over:  # now that the decision has named it
            transaction.give_up(before=now - situation.stale_after, episode=over)
        return _Settled(decision.verdict, run, news)

    def _follow(
        self,
        transaction: Transaction,
        case: Case,
        episode: Episode | None,
        run: Run | None,
        planned: _Planned,
        verdict: Verdict,
        now: float,
    ) -> Run | None:
        """Do to the run what follows from a verdict on *episode*, and return it."""
        match verdict.answer:
            case Answer.ALLOW:
                assert episode is not None  # `current` denies without an alert
                run = _begin(transaction, case, episode, run, planned.plan, now)
                outcomes.begin(transaction, run)
                if planned.fault:
                    run = self._healing.finish(transaction, run, Outcome.FAILED, planned.fault)
            case Answer.WAIT:
                assert episode is not None
                known = None if run is None else run.asked_at
                run = _pend(transaction, case, episode, run, verdict, now)
                if run.asked_at != known and case.config.settings.notify.tells:
                    transaction.put_untold(run.id, "asked")
            case Answer.DENY:
                if verdict.reason is Reason.APPROVAL_EXPIRED:
                    transaction.put_veto(case.key, by="promheal", reason=verdict.detail, now=now)
                if run is not None:
                    why = verdict.detail if episode else _evidence(transaction, run, verdict)
                    evidence = f"{verdict.reason}: {why}"
                    run = self._healing.finish(transaction, run, Outcome.CANCELLED, evidence)
        return run

    def _note_relapse(
        self,
        transaction: Transaction,
        case: Case,
        episode: Episode | None,
        asked: Asked,
        healed_at: float | None,
    ) -> None:
        if episode is None or healed_at is None:
            return
        within, now = case.strategy.verify.relapse, self._clock()
        firing = [(episode, asked.signal if asked.answered else Signal.UNKNOWN)]
        firing += [(each.episode, Signal.FIRING) for each in asked.also]
        if min(now, *(each.first_seen for each, _ in firing)) - healed_at >= within:
            return
        healed = transaction.last_heal(case.key)
        if healed is None or not any(
            relapsed(healed, each, signal, within, now) for each, signal in firing
        ):
            return
        outcomes.relapse(transaction, case.config, healed, now)
        log.warning(
            "a heal did not hold",
            extra={"run": healed.id, "strategy": healed.strategy, "target": healed.target},
        )

    def _act(self, run: Run) -> float | None:
        if run.outcome is not None:
            return self._healing.released(run)
        assert run.acted_at is not None
        assert run.plan is not None
        self._metrics.alert_to_action.labels(run.strategy).observe(
            max(0.0, run.acted_at - float(run.plan.alert["starts_at"])), exemplar=of_run(run.id)
        )
        return self._healing.forward(run)

    def _drop(self, pending: Run, why: str) -> None:
        self._journal.atomically(lambda t: self._healing.finish(t, pending, Outcome.CANCELLED, why))

    def _record(
        self, transaction: Transaction, key: Key, decision: Decision, run: Run | None, now: float
    ) -> bool:
        verdict = decision.verdict
        transaction.count(DECISIONS.name, key.strategy, verdict.answer, str(verdict.reason or ""))
        return transaction.record(key, decision, run=None if run is None else run.id, now=now)


def _asking(transaction: Transaction, key: Key) -> Sequence[Episode]:
    """Return as many of the alerts that ask as matter, and one to know that there are more."""
    return transaction.asking(key, limit=MOST + 1)


def _plan(case: Case, episode: Episode | None, asked: Asked) -> _Planned:
    if episode is None:
        return _Planned()
    try:
        return _Planned(
            plan_for(
                case.strategy,
                case.target,
                episode,
                asked.value,
                asked.expression,
                inventory=case.config.inventory,
                undeclared=case.config.settings.undeclared_values is UndeclaredValues.WARN,
                binding=asked.binding,
                decay=asked.decay,
                alert_decay=asked.alert_decay,
                also=asked.also,
                unproven=asked.unproven,
            )
        )
    except ActionError as error:
        return _Planned(fault=str(error))


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
