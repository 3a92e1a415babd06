"""What follows from an outcome? Breakers and engine hear of it, in the transaction that records it.

`failed`, `rolled_back`, `rollback_failed`, `ineffective` and `unknown` are failures; `inconclusive`
and `cancelled` say nothing, but a trial that ends so makes room for another. What is inconclusive
again and again on one target, and a heal that does not hold, are failures for the breakers of the
strategy and of the target.

The main breaker and dormancy are for everything failing: they count the targets that fail, each
once, for one broken service is stopped by its own breaker and says nothing of the others. Neither
counts what cannot be proven or does not hold. A strategy's breaker counts runs, whatever the target
is: what fails is the strategy's own action.
"""

from __future__ import annotations

from collections.abc import Iterator

from receiver.config.in_force import Config
from receiver.journal import Transaction
from receiver.policy import dormancy
from receiver.policy.breaker import (
    MAIN,
    Breaker,
    BreakerEvent,
    BreakerState,
    Happening,
    StrategyThresholds,
    Thresholds,
    names,
)
from receiver.policy.run import DOUBTFUL, FAILURES, Doubt, Outcome, Run
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key
from receiver.reporting.metrics import RELAPSES, TARGET_BREAKERS, TRANSITIONS


def begin(transaction: Transaction, run: Run) -> None:
    """*run* begins to act: where a breaker is half open, it is the trial."""
    assert run.acted_at is not None
    trial = Happening(event=BreakerEvent.TRIAL, at=run.acted_at, run=run.id)
    for name, before in transaction.breakers_before(run.strategy, run.target).items():
        _tell(transaction, name, trial, before)


def end(
    transaction: Transaction,
    config: Config,
    run: Run,
    outcome: Outcome,
    now: float,
    *,
    doubt: Doubt | None = None,
) -> bool:
    """*run*, which has acted, ends with *outcome*; return whether it is a failure for breakers."""
    engine = config.settings.engine
    event = _event(outcome)
    own = event
    if doubt in DOUBTFUL and _too_often(transaction, config, run):
        own = BreakerEvent.FAILURE
    permanent = False
    known = transaction.breakers_before(run.strategy, run.target)
    for name, thresholds in _breakers(config, run):
        happening = _happening(name, run, event if name == MAIN else own, now, thresholds)
        state = _tell(transaction, name, happening, known[name])
        permanent = permanent or (name == MAIN and state is BreakerState.PERMANENT_OPEN)
    before = became = transaction.dormancy()
    if event is BreakerEvent.FAILURE:
        became = dormancy.failed(before, run.target, now, dormant_after=engine.dormant_after)
    elif event is BreakerEvent.SUCCESS:
        became = dormancy.anew(before)
    if permanent:
        became = dormancy.lulled(became, dormancy.BREAKER, now)
    if became != before:
        transaction.put_dormancy(became)
    return own is BreakerEvent.FAILURE


def relapse(transaction: Transaction, config: Config, run: Run, now: float) -> None:
    """*run* has healed, and that has not held: it stays `healed`, and counts as a failure."""
    transaction.put_relapse(run.id, now)
    transaction.count(RELAPSES.name, run.strategy)
    for name, thresholds in _breakers(config, run):
        if name != MAIN:
            _tell(transaction, name, _happening(name, run, BreakerEvent.FAILURE, now, thresholds))
    if config.settings.notify.tells:
        transaction.put_message(run.id, "ended")


def _breakers(config: Config, run: Run) -> Iterator[tuple[str, Thresholds]]:
    """Yield those that stand before *run*, the widest first, with their thresholds."""
    engine, strategy = config.settings.engine, config.strategies.get(run.strategy)
    thresholds = (engine.main_breaker, _thresholds(strategy), engine.target_breaker)
    yield from zip(names(run.strategy, run.target), thresholds, strict=True)


def _happening(
    name: str, run: Run, event: BreakerEvent, now: float, thresholds: Thresholds
) -> Happening:
    assert run.acted_at is not None
    return Happening(
        event=event,
        at=now,
        run=run.id,
        started_at=run.acted_at,
        target=run.target if name == MAIN else None,
        thresholds=thresholds,
    )


def _too_often(transaction: Transaction, config: Config, run: Run) -> bool:
    """Whether *run*, inconclusive, is one of so many in a row on its target."""
    strategy = config.strategies.get(run.strategy)
    most = (StrategyThresholds() if strategy is None else strategy.breaker).inconclusive
    return transaction.doubtful(Key(run.strategy, run.target)) + 1 >= most


def reset(transaction: Transaction, name: str, now: float) -> None:
    """A person closes a breaker. With the main one, what everything has counted begins anew."""
    _tell(transaction, name, Happening(event=BreakerEvent.RESET, at=now))
    if name == MAIN:
        transaction.put_dormancy(dormancy.anew(transaction.dormancy()))


def _event(outcome: Outcome) -> BreakerEvent:
    if outcome in FAILURES:
        return BreakerEvent.FAILURE
    return BreakerEvent.SUCCESS if outcome is Outcome.HEALED else BreakerEvent.RELEASE


def _thresholds(strategy: Strategy | None) -> Thresholds:
    """A strategy's own; a run may outlive its strategy's place in the configuration."""
    own = StrategyThresholds() if strategy is None else strategy.breaker
    return Thresholds(
        failures=own.failures, open_for=own.open_for, permanent_after=own.permanent_after
    )


def _tell(
    transaction: Transaction, name: str, happening: Happening, before: Breaker | None = None
) -> BreakerState | None:
    state = transaction.happen(name, happening, before)
    if state is not None:
        # A target's name comes from a payload, and no label value does.
        shown = TARGET_BREAKERS if name.startswith("target:") else name
        transaction.count(TRANSITIONS.name, shown, state)
    return state
