"""Ends that somebody else contradicts: which alerts still fire although they were resolved?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from receiver.clock import Clock
from receiver.healing.wants import keys_of, wants_of
from receiver.journal import Episode, Journal, Transaction, Want, of_alerts
from receiver.policy.alert import Alert
from receiver.policy.signal import Signal
from receiver.policy.strategy import Strategies
from receiver.policy.target import Key

log: Final = logging.getLogger("promheal.intake")

PEER_LAG: Final = 600.0
"""Seconds that an HA peer of Alertmanager may lag behind: its group_interval (5 m by default), the
peers' timeouts (15 s each) and its retries."""
_AT_ONCE: Final = 100
"""Settled at most at once; each costs a question to Prometheus."""


class Conflicts:
    def __init__(
        self,
        *,
        journal: Journal,
        clock: Clock,
        strategies: Callable[[], Strategies],
        wake: Callable[[Key], None],
        ask: Callable[[Episode], Signal],
        lists: Callable[[Alert], bool | None],
    ) -> None:
        """*ask* evaluates an episode's expression; *lists* as of `Intake`."""
        self._journal = journal
        self._clock = clock
        self._strategies = strategies
        self._wake = wake
        self._ask = ask
        self._lists = lists

    def settle(self) -> None:
        """Find out which ended alerts fire after all: the end may have been a mistake.

        Alertmanager ends an alert by itself when Prometheus is out of its reach, and fires it with
        its old start when that is over. A peer that lags behind says just the same, so Prometheus
        is asked; if it cannot tell, what is said long after the end is believed.

        And whoever may post can say that something has ended. So where a strategy wanted to heal
        it, and Prometheus lists it as firing, its end was none.
        """
        for episode, at in self._journal.read(lambda t: t.conflicts(limit=_AT_ONCE)):
            signal = self._ended(episode) if at <= episode.last_seen else self._ask(episode)
            if signal is Signal.UNKNOWN:
                if at - episode.last_seen > PEER_LAG:
                    signal = Signal.FIRING
                elif self._clock() - at < PEER_LAG:
                    continue  # Prometheus may be back soon
            wants = None
            if signal is Signal.FIRING:
                wants = wants_of(self._strategies(), [episode.alert])
                log.warning("fires after all", extra={"fingerprint": episode.alert.fingerprint})

            def settle(
                transaction: Transaction,
                episode: Episode = episode,
                wants: list[Want] | None = wants,
            ) -> None:
                transaction.settle_conflict(episode, wants, now=self._clock())
                transaction.wake(keys_of(wants or ()))

            self._journal.atomically(settle, of_alerts([episode.alert.fingerprint]))
            for want in wants or ():
                self._wake(Key(want.strategy, want.target))

    def _ended(self, episode: Episode) -> Signal:
        """Ask about an episode whose end was told, and nothing since.

        By the list of Prometheus and not by the expression, which returns it before its `for` is
        over, and may do so again by now.
        """
        listed = self._lists(episode.alert)
        if listed is None:
            return Signal.UNKNOWN
        return Signal.FIRING if listed else Signal.CLEARED
