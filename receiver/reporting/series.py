"""Which label sets does a total have at 0 from the start?

`increase` sees the first event only after a 0. So what is alerted on is there before it happens:
how runs end, and what breakers become. There may be hundreds of strategies; so what cannot come up
by the configuration in force is not there, and most decisions, on which nothing is alerted, come
up with the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import Final

from receiver.policy.breaker import MAIN, BreakerState
from receiver.policy.guards.situation import Answer, Reason
from receiver.policy.strategy import Mode, OnFailure, Strategies
from receiver.reporting.metrics import (
    ACTION_OUTCOMES,
    ACTIONS,
    CODES,
    DECISIONS,
    DELIVERIES,
    DUPLICATES,
    HEALS,
    NOTICES,
    OUTCOMES,
    RESULTS,
    ROLLBACKS,
    STATUSES,
    TARGET_BREAKERS,
    TOTALS,
    TRANSITIONS,
    UNDOINGS,
    UNDONE,
    Total,
)

_FIRST: Final[Mapping[Mode, tuple[tuple[str, str], ...]]] = {
    Mode.OBSERVE: ((Answer.DENY, Reason.OBSERVE_ONLY),),
    Mode.APPROVE: ((Answer.WAIT, Reason.AWAITING_APPROVAL), (Answer.ALLOW, "")),
    Mode.AUTO: ((Answer.ALLOW, ""),),
}
"""(verdict, reason) of what a strategy is there to decide."""


def label_sets(
    total: Total, strategies: Strategies, channels: Iterable[str] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield each combination of label values that *total* has from the start."""
    acting = [strategy for strategy in strategies if strategy.mode is not Mode.OBSERVE]
    undoing = [one for one in acting if one.on_failure is OnFailure.ROLLBACK]
    if total is DECISIONS:
        yield from ((one.name, *first) for one in strategies for first in _FIRST[one.mode])
    elif total is HEALS:
        for one in acting:
            undoes = one.on_failure is OnFailure.ROLLBACK
            yield from ((one.name, end) for end in OUTCOMES if undoes or end not in UNDONE)
    else:
        values: dict[str, Iterable[str]] = {
            "code": CODES,
            "status": STATUSES,
            "reason": DUPLICATES,
            "strategy": [one.name for one in (undoing if total is ROLLBACKS else acting)],
            "action": strategies.actions,
            "channel": channels,
            "outcome": ACTION_OUTCOMES if total is ACTIONS else UNDOINGS,
            "result": DELIVERIES if total is NOTICES else RESULTS,
            "breaker": (MAIN, *(f"strategy:{one.name}" for one in acting), TARGET_BREAKERS),
            "to": tuple(BreakerState),
        }
        yield from product(*(tuple(values[label]) for label in total.labels))


def rows(
    total: Total,
    moved: Mapping[tuple[str, ...], float],
    young: Collection[tuple[str, ...]],
    strategies: Strategies,
    actions: tuple[str, ...],
    channels: tuple[str, ...],
) -> list[tuple[tuple[str, ...], float]]:
    """Return what is there from the start, and what has moved; at 0 what is new and *young*.

    The list is the same one while nothing has moved, which makes it quick to compare.
    """
    if not moved:
        return _none_moved(total, strategies, channels)
    found = dict(_zeros(total, strategies, channels))
    for values, number in moved.items():
        if values in found:
            found[values] = number
        elif _in_force(total, values, strategies, actions, channels):
            found[values] = 0.0 if values in young else number
    return list(found.items())


@lru_cache(maxsize=2 * len(TOTALS))
def _zeros(
    total: Total, strategies: Strategies, channels: tuple[str, ...]
) -> Mapping[tuple[str, ...], float]:
    return dict.fromkeys(label_sets(total, strategies, channels), 0.0)


@lru_cache(maxsize=2 * len(TOTALS))
def _none_moved(
    total: Total, strategies: Strategies, channels: tuple[str, ...]
) -> list[tuple[tuple[str, ...], float]]:
    return list(_zeros(total, strategies, channels).items())


def _in_force(
    total: Total,
    values: tuple[str, ...],
    strategies: Strategies,
    actions: Iterable[str],
    channels: Iterable[str],
) -> bool:
    """Whether what has moved is of the configuration in force, and not of an earlier one."""
    for label, value in zip(total.labels, values, strict=True):
        name = value.removeprefix("strategy:") if total is TRANSITIONS else value
        if (
            (label == "strategy" and strategies.get(value) is None)
            or (label == "breaker" and value != name and strategies.get(name) is None)
            or (label == "action" and value not in actions)
            or (label == "channel" and value not in channels)
        ):
            return False
    return True
