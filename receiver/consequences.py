"""What follows from an outcome? Breakers and engine hear of it, in the transaction that records it.

`failed`, `rolled_back`, `rollback_failed`, `ineffective` and `unknown` are failures; `inconclusive`
and `cancelled` say nothing, but a trial that ends so makes room for another.
"""

from __future__ import annotations

from receiver import dormancy
from receiver.breaker import MAIN, BreakerEvent, BreakerState, Happening, Thresholds, names
from receiver.gathering import Config
from receiver.journal import Transaction
from receiver.metrics import TARGET_BREAKERS, TRANSITIONS
from receiver.run import FAILURES, Outcome, Run
from receiver.strategy import Strategy


def begin(transaction: Transaction, run: Run) -> None:
    """*run* begins to act: where a breaker is half open, it is the trial."""
    assert run.acted_at is not None
    for name in names(run.strategy, run.target):
        _tell(transaction, name, Happening(event=BreakerEvent.TRIAL, at=run.acted_at, run=run.id))


def end(transaction: Transaction, config: Config, run: Run, outcome: Outcome, now: float) -> None:
    """*run*, which has acted, ends with *outcome*."""
    assert run.acted_at is not None
    engine = config.settings.engine
    strategy = config.strategies.get(run.strategy)
    event = _event(outcome)
    permanent = False
    for name, thresholds in zip(
        names(run.strategy, run.target),
        (engine.main_breaker, _thresholds(strategy), engine.target_breaker),
        strict=True,
    ):
        happening = Happening(
            event=event, at=now, run=run.id, started_at=run.acted_at, thresholds=thresholds
        )
        state = _tell(transaction, name, happening)
        permanent = permanent or (name == MAIN and state is BreakerState.PERMANENT_OPEN)
    before = became = transaction.dormancy()
    if event is BreakerEvent.FAILURE:
        became = dormancy.failed(before, now, dormant_after=engine.dormant_after)
    elif event is BreakerEvent.SUCCESS:
        became = dormancy.healed(before)
    if permanent:
        became = dormancy.lulled(became, dormancy.BREAKER, now)
    if became != before:
        transaction.put_dormancy(became)


def reset(transaction: Transaction, name: str, now: float) -> None:
    """A person closes a breaker."""
    _tell(transaction, name, Happening(event=BreakerEvent.RESET, at=now))


def _event(outcome: Outcome) -> BreakerEvent:
    if outcome in FAILURES:
        return BreakerEvent.FAILURE
    return BreakerEvent.SUCCESS if outcome is Outcome.HEALED else BreakerEvent.RELEASE


def _thresholds(strategy: Strategy | None) -> Thresholds:
    """A strategy's own; a run may outlive its strategy's place in the configuration."""
    return Thresholds() if strategy is None else strategy.breaker


def _tell(transaction: Transaction, name: str, happening: Happening) -> BreakerState | None:
    state = transaction.happen(name, happening)
    if state is not None:
        # A target's name comes from a payload, and no label value does.
        shown = TARGET_BREAKERS if name.startswith("target:") else name
        transaction.count(TRANSITIONS.name, shown, state)
    return state
