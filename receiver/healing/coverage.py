"""What does a scope cover now: strategies, alerts that fire, runs that are not finished?"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from receiver.policy.run import State
from receiver.policy.scope import Scope
from receiver.policy.target import Key


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    strategies: tuple[str, ...]
    """Strategies that may have a target in it."""
    targets: tuple[str, ...]
    """Targets for which something fires, or a run is not finished."""
    alerts: int
    """Firing alerts that ask for a strategy."""
    under_way: tuple[int, ...]
    """Runs that have begun to act, and go on."""
    waiting: tuple[int, ...]
    """Runs that are pending."""


def coverage(
    scope: Scope,
    strategies: tuple[str, ...],
    firing: Iterable[tuple[Key, int]],
    unfinished: Iterable[tuple[Key, int, State]],
) -> Coverage:
    """Return what *scope* covers of *firing*, (key, episode), and *unfinished*, (key, run, state).

    *strategies* are the names of those that may have a target in it.
    """
    asking = [(key, episode) for key, episode in firing if scope.covers(*key)]
    runs = [(key, run, state) for key, run, state in unfinished if scope.covers(*key)]
    return Coverage(
        strategies=strategies,
        targets=tuple(
            dict.fromkeys(
                [target for (_, target), _ in asking] + [key.target for key, _, _ in runs]
            )
        ),
        alerts=len({episode for _, episode in asking}),
        under_way=tuple(run for _, run, state in runs if state is not State.PENDING),
        waiting=tuple(run for _, run, state in runs if state is State.PENDING),
    )
