"""What does Prometheus say about this alert now?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from receiver.clients.prometheus import Prometheus
from receiver.clock import Clock
from receiver.errors import UpstreamError
from receiver.healing.ruleset import Ruleset
from receiver.policy.authority import Authority, Speaker, authority, lists, rule_of
from receiver.policy.decay import Decay
from receiver.policy.promql import Rule, Samples, quote
from receiver.policy.proof.bind import bind
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.judgement import UNBOUND_ALERT, Judgement, unanswered
from receiver.policy.proof.scraping import asks_about_scraping
from receiver.policy.proof.verifier import look
from receiver.policy.relabel import Sending
from receiver.policy.signal import ConditionState, Signal, SignalDoubt
from receiver.policy.strategy import Expect

_NOBODY: Final = Judgement(
    Signal.UNKNOWN, None, "no prometheus in promheal.yml", doubt=SignalDoubt.NOBODY
)
MOST: Final = 10
"""Rules of one name that are tried for an alert that none of them seems to raise."""


class PrometheusVerifier:
    """Asks one Prometheus; without one, nothing is ever proven."""

    def __init__(self, prometheus: Prometheus | None, clock: Clock) -> None:
        self._prometheus = prometheus
        self._clock = clock
        self._ruleset = None if prometheus is None else Ruleset(prometheus, clock)

    def confirm(
        self,
        alert_labels: Mapping[str, str],
        said: str | None,
        *,
        speaker: Speaker = Speaker.SENDER,
        starts_at: float = 0.0,
    ) -> Judgement:
        """Whether the alert fires now, before anything is done about it, and which series is its.

        *said* is the expression that *speaker* gives; authority.py says when it is asked.
        *starts_at* is when the alert began, by the sender's clock; 0 when that is not known.
        """
        if self._prometheus is None:
            return _NOBODY
        try:
            rules = _rules(self._prometheus, alert_labels)
            sending = self.sending()
        except UpstreamError as error:
            return unanswered(error)
        asking = authority(rules, alert_labels, said, speaker)
        candidates = [asking]
        if asking.rule is None and rules and sending is not None and sending.chains:
            # Relabelling may have removed what the rule sets; the series still identifies it.
            candidates = [Authority(expression=r.query, rule=r) for r in rules[:MOST]] + candidates
        for each in candidates:
            judgement = self._confirmed(each, alert_labels, starts_at)
            judgement = msgspec.structs.replace(judgement, expression=each.expression)
            if judgement.binding is not None or judgement.signal is not Signal.UNKNOWN:
                return judgement
        return judgement

    def _confirmed(
        self, asking: Authority, alert_labels: Mapping[str, str], starts_at: float
    ) -> Judgement:
        rule, expression = asking.rule, asking.expression
        if rule is not None and rule.health == "err":
            broken = f"Prometheus cannot evaluate the rule {rule.name}: {rule.last_error}"
            return Judgement(Signal.UNKNOWN, None, broken, broken)
        if expression is None:
            doubt = SignalDoubt.VOUCHED if asking.vouched else SignalDoubt.RULE
            return Judgement(Signal.UNKNOWN, None, asking.why, doubt=doubt)
        judgement = bind(
            self,
            alert_labels,
            expression,
            rule,
            now=self._clock(),
            starts_at=starts_at,
            well_at=self._well_at(alert_labels, expression, rule, starts_at),
        )
        silent = judgement.signal is Signal.UNKNOWN and judgement.doubt is SignalDoubt.DATA
        if silent and rule is not None and lists(rule.firing, alert_labels):
            said = "Prometheus lists it as firing; by itself its expression does not tell: "
            return msgspec.structs.replace(
                judgement, signal=Signal.FIRING, detail=said + judgement.detail
            )
        return judgement

    def _well_at(
        self,
        alert_labels: Mapping[str, str],
        expression: str,
        rule: Rule | None,
        starts_at: float,
    ) -> float:
        """Return a moment before anything that made the alert fire; 0 where that is unknown."""
        assert self._ruleset is not None
        seconds = self._ruleset.decay(alert_labels, expression).seconds
        if rule is None or seconds is None or starts_at <= 0:
            return 0.0
        return max(0.0, starts_at - rule.duration - seconds - rule.interval)

    def look(
        self,
        binding: Binding | None,
        *,
        since: float,
        expect: Expect = Expect.EMPTY,
        accept_gone: bool = False,
    ) -> Judgement:
        """Whether what is bound still fires by data newer than *since*, when the last step ended.

        0: before acting, when any sample will do. None: its series could not be told.
        """
        if self._prometheus is None:
            return _NOBODY
        if binding is None:
            return UNBOUND_ALERT
        return look(
            self,
            binding,
            since=since,
            now=self._clock(),
            expect=expect,
            accept_gone=accept_gone,
        )

    # -- Prometheus, as the proof asks it

    def query(self, expr: str, at: float | None = None) -> Samples:
        assert self._prometheus is not None
        return self._prometheus.query(expr, at)

    def recordings(self) -> Mapping[str, tuple[Rule, ...]]:
        assert self._ruleset is not None
        return self._ruleset.makers()

    def sending(self) -> Sending | None:
        assert self._ruleset is not None
        return self._ruleset.sending()

    # -- what else is asked before acting

    def decay(
        self, alert_labels: Mapping[str, str], expression: str | None, *, own_query: bool = False
    ) -> Decay:
        """Return how far back what is asked about the alert looks; see Ruleset.decay."""
        if self._ruleset is None:
            return Decay(None, "no prometheus in promheal.yml")
        return self._ruleset.decay(alert_labels, expression, own_query=own_query)

    def lists(self, alert_labels: Mapping[str, str]) -> bool | None:
        """Whether Prometheus lists the alert as firing; None when it cannot be asked."""
        name = alert_labels.get("alertname")
        if self._prometheus is None or not name:
            return False
        try:
            sending = self.sending()
            rules = self._prometheus.rules(name)
        except UpstreamError as error:
            return False if error.unknown_path else None
        if sending is not None and sending.conflict(alert_labels):
            return False  # an alert of the same labels fires here too, and is another one
        rule = rule_of(rules, alert_labels)
        return rule is not None and rule.health == "ok" and lists(rule.firing, alert_labels)

    def condition(self, query: str) -> tuple[ConditionState, str]:
        """Return whether *query* returns anything, and what was answered."""
        if self._prometheus is None:
            return ConditionState.UNKNOWN, "no prometheus in promheal.yml"
        try:
            samples = self._prometheus.query(query)
        except UpstreamError as error:
            return ConditionState.UNKNOWN, str(error)
        if samples:
            return ConditionState.TRUE, f"{query} returned {samples[0].value:g}"
        return ConditionState.FALSE, f"{query} returned nothing"

    def suspect(self, alert_labels: Mapping[str, str], expression: str | None) -> str:
        """Return why the alert may be about its monitoring and not its target, or an empty text.

        That is so while the target's scrape fails, as far as the alert's `job` and `instance` name
        it. An expression that asks for just that, or for absence, is believed.
        """
        about = {name: alert_labels[name] for name in ("job", "instance") if name in alert_labels}
        if self._prometheus is None or not about or expression is None:
            return ""
        if asks_about_scraping(expression):
            return ""
        matchers = ",".join(f"{name}={quote(value)}" for name, value in about.items())
        query = f"max(up{{{matchers}}}) == 0"
        try:
            failing = self._prometheus.query(query)
        except UpstreamError as error:
            return f"whether the target is scraped is not known: {error}"
        return f"its scrape fails: {query}" if failing else ""


def _rules(prometheus: Prometheus, alert_labels: Mapping[str, str]) -> tuple[Rule, ...] | None:
    """Return the rules of the alert's name; None when there is no rules API."""
    name = alert_labels.get("alertname")
    if not name:
        return ()
    try:
        return prometheus.rules(name)
    except UpstreamError as error:
        if error.unknown_path:
            return None
        raise
