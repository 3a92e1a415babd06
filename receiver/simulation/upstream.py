"""Prometheus and Alertmanager as they answer, in place of HTTP: by the courses of a script.

What they say is as in earnest: an answer is as old as the last evaluation, and that an alert has
cleared is proven only by an evaluation after the action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from receiver.clock import Clock
from receiver.policy.alert import Alert
from receiver.policy.authority import Speaker
from receiver.policy.decay import Decay, decay
from receiver.policy.matcher import Matcher
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.judgement import Judgement
from receiver.policy.signal import ConditionState, Signal, SignalDoubt, Silencing
from receiver.policy.strategy import Expect
from receiver.settings import Settings
from receiver.simulation.course import EMPTY, AlertCourse, Course, Value
from receiver.simulation.script import Script, ScriptedAlert

Labels = frozenset[tuple[str, str]]

_DOWN: Final = "Prometheus is down"
_UNWRITTEN: Final = "the test gives no `queries` with this query"


class SimulatedSilence:
    def __init__(self, matchers: Iterable[Matcher], until: float) -> None:
        self._matchers = tuple(matchers)
        self.until = until

    def mutes(self, labels: Mapping[str, str], now: float) -> bool:
        return now < self.until and all(one.matches(labels) for one in self._matchers)


class SimulatedUpstream:
    """Answers as Prometheus (`Verifier`), and to what is asked of Alertmanager."""

    def __init__(self, script: Script, settings: Settings, clock: Clock, start: float) -> None:
        self._settings = settings
        self._clock = clock
        self._start = start
        self._interval = script.interval
        self.alerts = {
            _set(each.labels): (each, AlertCourse(each.course, script.interval))
            for each in script.alerts
        }
        self._queries = {_plain(each.query): each.course for each in script.queries}
        self.silences: list[SimulatedSilence] = []
        self.failing: list[tuple[Matcher, ...]] = []
        """Of which alerts the target's scrape fails."""
        self.prometheus_down = False
        self.alertmanager_down = False
        self.looked = False
        """Whether it was asked for a proof; whoever minds sets it back."""
        self.unwritten: dict[str, None] = {}
        """Queries that were asked, and have no answer in the script."""

    # -- Prometheus

    def confirm(
        self,
        alert_labels: Mapping[str, str],
        said: str | None,
        *,
        speaker: Speaker = Speaker.SENDER,  # noqa: ARG002
        starts_at: float = 0.0,  # noqa: ARG002
    ) -> Judgement:
        found = self.alerts.get(_set(alert_labels))
        unasked = self._unasked()
        if unasked is not None:
            return unasked
        if found is None:
            return Judgement(Signal.UNKNOWN, None, "no such rule", doubt=SignalDoubt.RULE)
        alert, course = found
        expression = alert.expr or said or "the alert's expression"
        seen = self._start + course.evaluated(self._now())
        binding = Binding(expression=expression, labels=dict(alert_labels), fed_at=seen)
        return self._judged(course.at(self._now()), seen, 0.0, expression, binding)

    def look(
        self,
        binding: Binding | None,
        *,
        since: float,
        expect: Expect = Expect.EMPTY,
        accept_gone: bool = False,  # noqa: ARG002
    ) -> Judgement:
        assert binding is not None
        self.looked = True
        unasked = self._unasked()
        if unasked is not None:
            return unasked
        seen = self._start + self._now() // self._interval * self._interval
        if not binding.own:
            _, course = self.alerts[_set(binding.labels)]
            return self._judged(course.at(self._now()), seen, since, binding.expression, binding)
        value = self._asked(binding.expression)
        if value is None:
            return Judgement(Signal.UNKNOWN, None, self._silence(binding.expression))
        answer = f"{binding.expression} returned {'nothing' if value == EMPTY else value}"
        if (value == EMPTY) == (expect is Expect.PRESENT):
            return Judgement(Signal.FIRING, None, answer)
        return self._judged(0.0, seen, since, binding.expression, binding)

    def _judged(
        self, value: Value, seen: float, since: float, expression: str, binding: Binding
    ) -> Judgement:
        if isinstance(value, float) and value != 0:
            return Judgement(
                Signal.FIRING, value, f"returned: {value:g}", expression=expression, binding=binding
            )
        if value is None:
            return Judgement(
                Signal.UNKNOWN, None, "there is no data", expression=expression, binding=binding
            )
        if seen <= since:
            return Judgement(
                Signal.UNKNOWN,
                None,
                "no data from after the action yet",
                expression=expression,
                binding=binding,
            )
        return Judgement(
            Signal.CLEARED, None, "returned nothing", expression=expression, binding=binding
        )

    def decay(
        self,
        alert_labels: Mapping[str, str],
        expression: str | None,
        *,
        own_query: bool = False,
    ) -> Decay:
        if self._settings.prometheus is None:
            return Decay(None, "no prometheus in promheal.yml")
        found = self.alerts.get(_set(alert_labels))
        text = expression if own_query else None if found is None else found[0].expr
        if text is None:
            return Decay(0.0, scrape=self._interval)
        reach = decay(text, {})
        return Decay(reach.seconds, reach.problem, scrape=self._interval)

    def lists(self, alert_labels: Mapping[str, str]) -> bool | None:
        if self.prometheus_down:
            return None
        found = self.alerts.get(_set(alert_labels))
        return found is not None and fires(found[1].at(self._now()))

    def condition(self, query: str) -> tuple[ConditionState, str]:
        if self._settings.prometheus is None:
            return ConditionState.UNKNOWN, "no prometheus in promheal.yml"
        if self.prometheus_down:
            return ConditionState.UNKNOWN, _DOWN
        value = self._asked(query)
        if value is None:
            return ConditionState.UNKNOWN, self._silence(query)
        if value == EMPTY:
            return ConditionState.FALSE, f"{query} returned nothing"
        return ConditionState.TRUE, f"{query} returned {value:g}"

    def suspect(self, alert_labels: Mapping[str, str], expression: str | None) -> str:  # noqa: ARG002
        if any(all(one.matches(alert_labels) for one in each) for each in self.failing):
            return "its scrape fails"
        return ""

    def next_change(self, labels: Mapping[str, str], time: float) -> float:
        """Return until when nothing that Prometheus says of an alert changes by itself."""
        found = self.alerts.get(_set(labels))
        return inf if found is None else self._start + found[1].next_change(time - self._start)

    # -- Alertmanager

    def silenced(self, alert: Alert) -> Silencing:
        if self._settings.alertmanager is None:
            return Silencing()
        if self.alertmanager_down:
            return Silencing(unknown="Alertmanager is down")
        return Silencing("silence" if self.muted_until(alert.labels) else "")

    def muted_until(self, labels: Mapping[str, str]) -> float:
        """Return when the last silence of an alert ends; 0 when there is none now."""
        now = self._clock()
        return max((one.until for one in self.silences if one.mutes(labels, now)), default=0.0)

    def _now(self) -> float:
        return self._clock() - self._start

    def _unasked(self) -> Judgement | None:
        if self._settings.prometheus is None:
            return Judgement(
                Signal.UNKNOWN, None, "no prometheus in promheal.yml", doubt=SignalDoubt.NOBODY
            )
        if self.prometheus_down:
            return Judgement(Signal.UNKNOWN, None, _DOWN, doubt=SignalDoubt.BLIND)
        return None

    def _asked(self, query: str) -> Value:
        course: Course | None = self._queries.get(_plain(query))
        if course is None:
            self.unwritten[query] = None
            return None
        return course.at(self._now() // self._interval * self._interval)

    def _silence(self, query: str) -> str:
        return f"{query}: {_UNWRITTEN if query in self.unwritten else 'there is no data'}"


def fires(value: Value) -> bool:
    return isinstance(value, float) and value != 0


def labels_of(alert: ScriptedAlert) -> Labels:
    return _set(alert.labels)


def _set(labels: Mapping[str, str]) -> Labels:
    return frozenset(labels.items())


def _plain(query: str) -> str:
    """Return a query in the spacing in which two that are the same are equal."""
    return " ".join(query.split())
