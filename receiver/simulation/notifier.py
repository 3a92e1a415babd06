"""When does Alertmanager notify? By its route: group_wait, group_interval and repeat_interval.

An alert is a group of its own, which is flushed group_wait after it began and then at each
group_interval, and says nothing unless it is news or the last time is repeat_interval ago.
https://prometheus.io/docs/alerting/latest/configuration/#route
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final
from urllib.parse import quote

from receiver.clock import Clock
from receiver.policy.alert import Alert, Notification, Status
from receiver.policy.fingerprint import fingerprint
from receiver.simulation.course import AlertCourse
from receiver.simulation.script import ScriptedAlert
from receiver.simulation.upstream import SimulatedUpstream, fires

SENDER: Final = "http://alertmanager.example"


class Group:
    """One alert in Prometheus and Alertmanager, from its evaluations to its notifications."""

    def __init__(
        self,
        alert: ScriptedAlert,
        course: AlertCourse,
        *,
        upstream: SimulatedUpstream,
        clock: Clock,
        start: float,
        at: Callable[[object, float, Callable[[], None]], None],
        send: Callable[[Notification], None],
    ) -> None:
        """*at* sets the only timer of a name."""
        self._alert = alert
        self.course = course
        self._upstream = upstream
        self._clock = clock
        self._start = start
        self._at = at
        self._send = send
        self._fingerprint = fingerprint(alert.labels)
        self._link = ""
        if alert.expr is not None:
            self._link = f"http://prometheus.example/graph?g0.expr={quote(alert.expr, safe='')}"
        self._starts_at = 0.0
        self._ends_at: float | None = None
        self._created: float | None = None  # None: there is no group now
        self._told: Status | None = None
        self._told_at = 0.0

    def evaluate(self) -> None:
        """See whether it fires, and again at its next change."""
        now = self._clock()
        firing = fires(self.course.at(now - self._start))
        if firing and (self._created is None or self._ends_at is not None):
            if self._created is None:
                self._created, self._told = now, None
            self._starts_at, self._ends_at = now, None
            self._flush_soon()
        elif not firing and self._created is not None and self._ends_at is None:
            self._ends_at = now
            self._flush_soon()
        self.changed()

    def changed(self) -> None:
        """Evaluate it again when its course changes, as far as that is known now."""
        following = self._start + self.course.next_change(self._clock() - self._start)
        self._at((self, "evaluate"), following, self.evaluate)

    def flush(self) -> None:
        if self._created is None:
            return
        now, notifying = self._clock(), self._alert.notifying
        muted = self._upstream.muted_until(self._alert.labels)
        if self._upstream.alertmanager_down:
            return  # it is flushed when it is back
        if muted:
            self._at((self, "flush"), self._next_flush(muted), self.flush)
            return
        if self._ends_at is not None:
            if self._told is Status.FIRING and notifying.send_resolved:
                self._tell(Status.RESOLVED)
            self._created = None
            return
        if self._told is not Status.FIRING or now - self._told_at >= notifying.repeat_interval:
            self._tell(Status.FIRING)
        again = self._next_flush(self._told_at + notifying.repeat_interval)
        self._at((self, "flush"), again, self.flush)

    def _flush_soon(self) -> None:
        self._at((self, "flush"), self._next_flush(self._clock()), self.flush)

    def _next_flush(self, time: float) -> float:
        """Return the first flush from *time* on."""
        assert self._created is not None
        notifying = self._alert.notifying
        first = self._created + notifying.group_wait
        if time <= first:
            return first
        return first + ceil((time - first) / notifying.group_interval) * notifying.group_interval

    def _tell(self, status: Status) -> None:
        now = self._clock()
        self._told, self._told_at = status, now
        alert = Alert(
            fingerprint=self._fingerprint,
            status=status,
            labels=self._alert.labels,
            annotations=self._alert.annotations,
            starts_at=self._starts_at,
            ends_at=self._ends_at,
            generator_url=self._link,
        )
        self._send(
            Notification(
                alerts=(alert,),
                receiver="promheal",
                group_key=self._fingerprint,
                external_url=SENDER,
            )
        )
