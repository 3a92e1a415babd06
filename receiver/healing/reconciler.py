"""What is, what should be, and one step towards it: `consider(strategy, target)`.

A firing alert is a state. Whatever brings it up, a notification, a timer, the resync, a start after
a crash, comes through this one door: look at the journal, ask Prometheus, ask the guards, act,
verify, record, and say when to look again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.healing.aftermath import Aftermath
from receiver.healing.asked import Asked, Case
from receiver.healing.choice import choose
from receiver.healing.execution import Healing
from receiver.healing.facts import Facts
from receiver.healing.plan import Planned, plan_or_fault
from receiver.healing.settling import Settled, Settling, Unsettled, asking
from receiver.healing.steps import Opening
from receiver.journal import EVERYTHING, OWN, Episode, Extent, Journal, Transaction
from receiver.policy.alert import Alert
from receiver.policy.decide import Decision, decide
from receiver.policy.guards.reasons import PASSED_ON, WOKEN_BY_OTHERS
from receiver.policy.guards.situation import Answer, Reason, Situation, Verdict
from receiver.policy.life import LifeEvent, transition
from receiver.policy.role import At, HandOver, Next, ProcessRole, Rest
from receiver.policy.run import Run, State
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key
from receiver.reporting.metrics import Metrics


class _Seen(msgspec.Struct, frozen=True):
    """What the journal says before anybody is asked."""

    run: Run | None
    episodes: Sequence[Episode] = ()
    """The alerts that ask, the one said last first."""
    situation: Situation | None = None
    """Of the first, if others would say what lets us act; None where there is nothing to decide, or
    nobody to ask."""
    healed_at: float | None = None
    """When the target was last proven healed."""


class WakeAll(Protocol):
    def __call__(self, keys: Iterable[Key], *, idle: bool = False) -> None: ...


WouldHave = Callable[[Key, Alert, Asked], None]
"""Is told of each alert that a server with --dry-run would have acted on."""


class Reconciler:
    def __init__(
        self,
        *,
        journal: Journal,
        healing: Healing,
        aftermath: Aftermath,
        metrics: Metrics,
        clock: Clock,
        config: Callable[[], Config],
        wake_all: WakeAll,
        role: ProcessRole,
        would_have: WouldHave = lambda *_: None,
        asked: Callable[[], None] = lambda: None,
    ) -> None:
        """*asked* is called when a run waits for a person's approval."""
        self._journal = journal
        self._healing = healing
        self._aftermath = aftermath
        self._facts = Facts(clock)
        self._settling = Settling(aftermath=aftermath, facts=self._facts, clock=clock)
        self._metrics = metrics
        self._clock = clock
        self._config = config
        self._wake_all = wake_all
        self._role = role
        self._would_have = would_have
        self._asked = asked
        self.last_consider = 0.0

    def consider(self, key: Key) -> Next:
        """Do what can be done for one strategy on one target; return when to look again.

        Never called for one target by two threads at once: the engine's lines see to it.
        """
        self.last_consider = self._clock()
        config = self._config()
        seen = self._journal.read(lambda transaction: self._see_all(transaction, config, key))
        if seen.run is not None and seen.run.state is not State.PENDING:
            return self._healing.carry(seen.run)
        return self._decide(key, config, seen) if self._role.decides else HandOver()

    def resync(self, *, idle: bool = False) -> None:
        """Bring up everything that fires and every run that is under way.

        *idle*: what has a time at which it is looked at may be left out, for nothing has changed.
        """
        self._wake_all(sorted(self._journal.read(lambda t: t.keys())), idle=idle)

    def weigh(self, strategy: Strategy, target: str, episodes: Sequence[Episode]) -> Decision:
        """Return what would be decided now for these alerts, without writing anything down."""
        case = Case(self._config(), strategy, target)
        seen = self._journal.read(lambda t: self._see(t, case, episodes))
        asked = choose(self._facts, case, episodes, seen.situation)
        return self._weigh(case, asked, plan_or_fault(case, asked))

    def _weigh(self, case: Case, asked: Asked, planned: Planned) -> Decision:
        def weighed(transaction: Transaction) -> Decision:
            run = transaction.unfinished(case.key)
            return decide(
                self._facts.situation(
                    transaction,
                    case,
                    asked.episode,
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
        if strategy is None:
            return _Seen(run)
        case = Case(config, strategy, key.target)
        return self._see(transaction, case, asking(transaction, case))

    def _see(self, transaction: Transaction, case: Case, episodes: Sequence[Episode]) -> _Seen:
        run = transaction.unfinished(case.key)
        if not episodes:
            return _Seen(run)
        if len(episodes) == 1 and not case.config.asks:
            healed = transaction.last_heal(case.key)
            healed_at = None if healed is None else healed.finished_at
            return _Seen(run, episodes, healed_at=healed_at)
        situation = self._facts.glance(transaction, case, episodes[0], run)
        return _Seen(run, episodes, situation, situation.past.last_healed)

    def _decide(self, key: Key, config: Config, seen: _Seen) -> Next:
        strategy = config.strategies.get(key.strategy)
        pending = seen.run
        place = None if pending is None or pending.reason not in PASSED_ON else pending.reason
        if strategy is None:
            if pending is not None:
                self._drop(pending, "the strategy is not configured any more")
            if place is not None:
                self._aftermath.pass_on(Reason(place))
            return Rest()
        if not seen.episodes and pending is None:
            self._aftermath.pass_on(Reason.STORM)  # one target fewer is affected
            return Rest()
        case = Case(config, strategy, key.target)
        asked = choose(self._facts, case, seen.episodes, seen.situation)
        planned = plan_or_fault(case, asked)
        # Taken before, for nothing is called started that would then have to wait.
        opening = None
        if asked.complete and planned.plan is not None:
            opening = self._healing.opening(planned.plan)
        try:
            settled = self._settle(case, seen, asked, planned, opening)
            if settled is None:
                return At(self._clock())  # what was left unasked is asked first
            again = self._follow(case, asked, settled, place, opening)
            if settled.news and self._has_gone(case, asked, planned, settled.verdict):
                return At(self._clock())
            return again
        finally:
            if opening is not None:
                opening.slot.give_back()

    def _settle(
        self, case: Case, seen: _Seen, asked: Asked, planned: Planned, opening: Opening | None
    ) -> Settled | None:
        """Decide, and write it down; None when something must be asked first.

        A run that begins is counted over several targets, and all else is its own.
        """

        def settled(extent: Extent) -> Settled | Unsettled:
            return self._journal.atomically(
                lambda t: self._settling.settle(
                    t, case, asked, planned, seen.healed_at, opening, extent
                ),
                extent,
            )

        became = settled(EVERYTHING if self._would_act(seen, asked) else OWN)
        if became is Unsettled.COUNT:
            became = settled(EVERYTHING)
        return became if isinstance(became, Settled) else None

    def _would_act(self, seen: _Seen, asked: Asked) -> bool:
        """Whether a run begins unless something has changed."""
        if seen.situation is None:  # there is nobody to ask
            return bool(seen.episodes) and asked.complete
        return self._facts.decide_by(seen.situation, asked).verdict.answer is Answer.ALLOW

    def _has_gone(self, case: Case, asked: Asked, planned: Planned, verdict: Verdict) -> bool:
        """Whether what is waited for has gone before others could see that we wait for it.

        Who makes room looks for those that wait when that is committed, and who waits looks for
        room when that is; so one of them sees the other, and no lock is needed for it.
        """
        if verdict.reason not in WOKEN_BY_OTHERS:
            return False
        return self._weigh(case, asked, planned).verdict.reason is not verdict.reason

    def _follow(
        self, case: Case, asked: Asked, settled: Settled, place: str | None, opening: Opening | None
    ) -> Next:
        """Do what follows from a decision, now that it is written down.

        *place* is what the run was woken to take, if anything.
        """
        verdict = settled.verdict
        settled.tell(case.key)
        if place is not None and verdict.reason != place:
            # It did not take the place that it was woken for; or it did, and it was woken only once
            # for two that became free together. Whoever finds none ends the chain.
            self._aftermath.pass_on(Reason(place))
        if verdict.answer is Answer.ALLOW:
            assert settled.run is not None
            return self._act(settled.run, opening)
        if settled.news and verdict.reason is Reason.AWAITING_APPROVAL:
            self._asked()
        if settled.news and verdict.reason is Reason.DRY_RUN and asked.episode is not None:
            self._would_have(case.key, asked.episode.alert, asked)
        return Rest() if verdict.until is None else At(verdict.until)

    def _act(self, run: Run, opening: Opening | None) -> Next:
        self._metrics.began(run.strategy)
        if run.acted_at is not None and run.plan is not None:
            since = float(run.plan.alert["starts_at"])
            self._metrics.observe(self._metrics.alert_to_action, run, run.acted_at - since)
        return self._healing.carry(run, opening)

    def _drop(self, pending: Run, why: str) -> None:
        outcome = transition(State.PENDING, LifeEvent.DENIED).end
        self._journal.atomically(lambda t: self._aftermath.finish(t, pending, outcome, why), OWN)
