"""What does a notification change in what we know? Record it durably, then wake who should look.

This half is fast and durable, healing may be slow; they meet in the journal.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import msgspec

from receiver.clock import Clock
from receiver.errors import JournalError, UpstreamError
from receiver.healing.conflicts import Conflicts
from receiver.healing.delivery_alerts import (
    HEARTBEAT,
    TEST_ID,
    ArrivedTest,
    arrived_test,
    is_test,
    tells_the_way,
)
from receiver.healing.rejections import Rejections
from receiver.healing.rematch import Rematch
from receiver.healing.wants import Wake, keys_of, wants_of
from receiver.journal import Admission, Admitted, Episode, Journal, Stored, Transaction, Want
from receiver.journal.extent import of_alerts
from receiver.policy.alert import Alert, Notification, Status
from receiver.policy.signal import Signal
from receiver.policy.strategy import Strategies
from receiver.reporting.metrics import DEDUPLICATED, NOTIFICATIONS, QUARANTINED, RECEIVED
from receiver.reporting.refusals import SET_ASIDE, RecentRefusals

log: Final = logging.getLogger("promheal.intake")

AHEAD: Final = 600.0
"""Seconds by which a sender's clock may be ahead of ours; a later start counts as now."""
ASIDE_AGAIN: Final = 60.0
"""Seconds until it is logged again that alerts were set aside."""

Fetch = Callable[[Notification], Sequence[Alert]]
"""Asks the sender's Alertmanager for every alert of a notification's receiver and group, or
raises UpstreamError."""


class Intake:
    def __init__(
        self,
        *,
        journal: Journal,
        clock: Clock,
        strategies: Callable[[], Strategies],
        wake: Wake,
        fetch: Callable[[], Fetch | None],
        ask: Callable[[Episode], Signal],
        trusts: Callable[[str], bool] = lambda _: False,
        lists: Callable[[Alert], bool | None] = lambda _: False,
    ) -> None:
        """*trusts* tells whether the expressions of a sender count, by its name.

        *lists* tells whether Prometheus itself has an alert among those that fire; None when it
        cannot be asked.
        """
        self.journal = journal
        self.clock = clock
        self.strategies = strategies
        self.wake = wake
        self._fetch = fetch
        self.trusts = trusts
        self._conflicts = Conflicts(
            journal=journal,
            clock=clock,
            strategies=strategies,
            wake=wake,
            ask=ask,
            lists=lists,
        )
        self._owed: dict[str, Notification] = {}  # truncated groups whose rest is not fetched yet
        self._owing = threading.Lock()
        self.last_heartbeat = 0.0
        """When the heartbeat last arrived, seconds since the epoch; 0 before the first."""
        self.refused = RecentRefusals(clock)
        """Notifications that were refused, by the answer's code, and alerts that were set aside."""
        self.last_notification = 0.0
        """When a notification was last accepted, as `last_heartbeat`."""
        self.last_test: ArrivedTest | None = None
        self._aside = 0  # alerts that were set aside since it was logged
        self._aside_told: float | None = None  # when it was, by the monotonic clock
        self._telling = threading.Lock()
        self.rejections = Rejections(journal)
        self.matching = Rematch(journal=journal, strategies=strategies, wake=wake)

    def admit(self, notification: Notification) -> Admitted:
        """Record a notification and wake what it concerns; when this returns it is durable.

        Raises JournalError when it could not be stored; then nothing of it was.
        """
        recording = _Recording(self, notification, code="202")
        return recording.told(self.journal.atomically(recording.write, recording.extent))

    def submit(self, notification: Notification, done: Callable[[Stored[Admitted]], None]) -> None:
        """Like `admit`, without waiting: *done* is called when it is durable, or cannot be.

        Raises JournalError when the journal does not take it at all.
        """
        recording = _Recording(self, notification, code="202")
        self.journal.submit(
            recording.write, lambda stored: done(stored.then(recording.told)), recording.extent
        )

    def reject(self, code: str) -> None:
        """Count a request that was not accepted. Stored soon; a full journal does not stop it."""
        self.refused.note(code)
        if self.rejections.add(code):
            self._settle_soon("rejections")

    def settle(self) -> None:
        """Do what could not be done while a notification was answered.

        Store the counts of rejected requests, match anew what could not be, fetch what truncated
        groups still owe, and ask whether ended alerts fire after all. What cannot be done now is
        kept for the next call.
        """
        try:
            self.rejections.store()
            self.matching.run()
            self._back_fill()
            self._conflicts.settle()
        except JournalError as error:
            log.warning("not stored yet: %s", error)

    def _settle_soon(self, name: str) -> None:
        """Settle in a thread; the resync does it if none can be started."""
        try:
            threading.Thread(target=self.settle, name=name, daemon=True).start()
        except RuntimeError as error:
            log.warning("%s; what is left to do is done at the next resync", error)

    def tell_aside(self, notification: Notification) -> None:
        """Log that alerts were set aside: once a minute, whoever sends how many of them."""
        bad = notification.quarantined
        if not bad:
            return
        self.refused.note(SET_ASIDE, notification.set_aside)
        with self._telling:
            self._aside += notification.set_aside
            now = monotonic()
            if self._aside_told is not None and now - self._aside_told < ASIDE_AGAIN:
                return
            number, self._aside, self._aside_told = self._aside, 0, now
        log.warning(
            "alerts were set aside, for they cannot be read (logged once a minute): %s",
            bad[0].problem,
            extra={"alerts": number, "sender": notification.external_url, "raw": bad[0].raw},
        )

    def owe(self, notification: Notification) -> None:
        with self._owing:
            first = not self._owed
            self._owed[f"{notification.external_url} {notification.group_key}"] = notification
        if first:
            self._settle_soon("back-fill")

    def _back_fill(self) -> None:
        """Fetch what `max_alerts` cut off; what cannot be fetched now is fetched at the resync."""
        fetch = self._fetch()
        with self._owing:
            owed = dict(self._owed)
        for name, notification in owed.items():
            if fetch is not None:
                try:
                    alerts = tuple(fetch(notification))
                except UpstreamError as error:
                    log.warning("truncated alerts are not fetched yet: %s", error)
                    continue
                whole = msgspec.structs.replace(
                    notification, alerts=alerts, quarantined=(), set_aside=0, truncated=0
                )
                recording = _Recording(self, whole, code=None)
                recording.told(self.journal.atomically(recording.write, recording.extent))
                log.info("truncated alerts fetched", extra={"alerts": len(alerts)})
            with self._owing:
                if self._owed.get(name) is notification:
                    del self._owed[name]


class _Recording:
    """One notification on its way into the journal, and what follows when it is there."""

    def __init__(self, intake: Intake, notification: Notification, *, code: str | None) -> None:
        self._intake = intake
        self._notification = notification
        self._code = code
        """The answer to count; None for what no request brought."""
        now = intake.clock()
        alerts = [_not_ahead(one, now) for one in notification.alerts if not tells_the_way(one)]
        # Alertmanager ends it when Prometheus is silent, and what we fetch proves no way here.
        self._beats = code is not None and any(
            alert.name == HEARTBEAT and alert.status is Status.FIRING
            for alert in notification.alerts
        )
        self._tests = [
            alert.labels.get(TEST_ID, "")
            for alert in notification.alerts
            if code is not None and is_test(alert) and alert.status is Status.FIRING
        ]
        self._firing = [alert for alert in alerts if alert.status is Status.FIRING]
        self._admission = Admission(alerts)
        self.extent = of_alerts(alert.fingerprint for alert in alerts)
        self._strategies = intake.strategies()
        self._wants = wants_of(self._strategies, self._firing)

    def write(self, transaction: Transaction) -> tuple[Admitted, list[Want]]:
        notification, now = self._notification, self._intake.clock()
        # After a reload nothing that was on its way may be missed.
        strategies = self._intake.strategies()
        unchanged = strategies is self._strategies
        wants = self._wants if unchanged else wants_of(strategies, self._firing)
        sender = notification.external_url
        user = notification.user
        admitted = transaction.admit(
            self._admission,
            wants,
            sender=sender,
            vouched_by=user if user and self._intake.trusts(user) else "",
            now=now,
        )
        # An engine beside us has its jobs in the same transaction; ours is woken afterwards.
        transaction.wake(keys_of(wants) | admitted.released)
        if notification.quarantined:
            transaction.quarantine(notification.quarantined, sender=sender, now=now)
            transaction.count(QUARANTINED.name, by=notification.set_aside)
        if self._code is not None:
            transaction.count(NOTIFICATIONS.name, self._code)
        for total, label, number in (
            (RECEIVED, "firing", len(self._firing)),
            (RECEIVED, "resolved", len(self._admission.resolved)),
            (DEDUPLICATED, "repeat", admitted.repeated),
            (DEDUPLICATED, "late", admitted.late),
            (DEDUPLICATED, "not_open", admitted.not_open),
        ):
            if number:
                transaction.count(total.name, label, by=number)
        return admitted, wants

    def told(self, stored: tuple[Admitted, list[Want]]) -> Admitted:
        """It is durable, and so accepted, whatever fails from here on: wake whom it concerns."""
        admitted, wants = stored
        try:
            self._follow(admitted, wants)
        except Exception:
            log.exception("accepted, but not all was woken; the next resync makes it good")
        return admitted

    def _follow(self, admitted: Admitted, wants: list[Want]) -> None:
        notification = self._notification
        self._intake.last_notification = self._intake.clock()
        if self._beats:
            self._intake.last_heartbeat = self._intake.last_notification
        if self._tests:
            arrived = arrived_test(self._tests[-1], self._intake.clock(), notification.receiver)
            self._intake.last_test = arrived
            log.info("a test alert arrived", extra={"id": arrived.id, "receiver": arrived.receiver})
        # In an order, so that what happens in virtual time can be repeated.
        for key in sorted(keys_of(wants) | admitted.released):
            self._intake.wake(key)
        self._intake.tell_aside(notification)
        if notification.truncated:
            log.warning(
                "alerts are missing: max_alerts of the receiver should be 0",
                extra={"truncated": notification.truncated, "group": notification.group_key},
            )
            self._intake.owe(notification)


def _not_ahead(alert: Alert, now: float) -> Alert:
    """Return *alert* with a start that an end of today can follow.

    An end in the future needs no such care: the journal lets it hide nothing that comes later.
    """
    if alert.starts_at <= now + AHEAD:
        return alert
    return msgspec.structs.replace(alert, starts_at=now)
