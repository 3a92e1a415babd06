"""Which strategies want to act on an alert, and on which target."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from receiver.journal import Want
from receiver.policy.alert import Alert
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key

Wake = Callable[[Key], None]
"""Is told of a target that is to be considered."""


def keys_of(wants: Iterable[Want]) -> set[Key]:
    return {Key(want.strategy, want.target) for want in wants}


def wants_of(strategies: Strategies, alerts: Iterable[Alert]) -> list[Want]:
    wants = []
    for alert in alerts:
        for strategy in strategies.select(alert):
            target = strategy.target_of(alert)
            assert target is not None  # `matches` has asked
            wants.append(Want(strategy.name, target, alert.fingerprint))
    return wants
