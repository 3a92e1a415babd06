"""What does Prometheus say about this alert now? The questions of verification.py, asked."""

from __future__ import annotations

from collections.abc import Mapping

from receiver.clock import Clock
from receiver.decay import Decay
from receiver.errors import UpstreamError
from receiver.guards.situation import Condition, Signal
from receiver.prometheus import Prometheus
from receiver.promql import Selector, quote, read
from receiver.ruleset import Ruleset
from receiver.strategy import Expect
from receiver.verification import Judgement, judge, observe


class PrometheusProver:
    """Asks one Prometheus; without one nothing is ever proven."""

    def __init__(self, prometheus: Prometheus | None, clock: Clock) -> None:
        self._prometheus = prometheus
        self._clock = clock
        self._ruleset = None if prometheus is None else Ruleset(prometheus, clock)

    def judge(
        self,
        alert_labels: Mapping[str, str],
        expression: str | None,
        *,
        since: float,
        expect: Expect = Expect.EMPTY,
        own_query: bool = False,
    ) -> Judgement:
        """Whether the alert's series is still returned, and the data is there, newer than *since*.

        *own_query*: *expression* is the strategy's and not the rule's.
        """
        if self._prometheus is None:
            return Judgement(Signal.UNKNOWN, None, "no prometheus in promheal.yml", unasked=True)
        evidence = observe(
            self._prometheus, alert_labels, expression, now=self._clock(), own_query=own_query
        )
        return judge(evidence, alert_labels, since=since, expect=expect)

    def decay(
        self, alert_labels: Mapping[str, str], expression: str | None, *, own_query: bool = False
    ) -> Decay:
        """How long what was before an action keeps it from being judged; as in `judge`."""
        if self._ruleset is None:
            return Decay(None, "no prometheus in promheal.yml")
        return self._ruleset.decay(alert_labels, expression, own_query=own_query)

    def condition(self, query: str) -> tuple[Condition, str]:
        """Whether *query* returns anything, and what was answered."""
        if self._prometheus is None:
            return Condition.UNKNOWN, "no prometheus in promheal.yml"
        try:
            samples = self._prometheus.query(query)
        except UpstreamError as error:
            return Condition.UNKNOWN, str(error)
        if samples:
            return Condition.TRUE, f"{query} returned {samples[0].value:g}"
        return Condition.FALSE, f"{query} returned nothing"

    def suspect(self, alert_labels: Mapping[str, str], expression: str | None) -> str:
        """Why the alert may tell of its monitoring and not of its target; empty if it does not.

        The target's scrape fails, as far as the alert's `job` and `instance` name it. An expression
        that asks for just that, or for what is absent, is believed.
        """
        about = {name: alert_labels[name] for name in ("job", "instance") if name in alert_labels}
        if self._prometheus is None or not about or expression is None:
            return ""
        try:
            selectors = read(expression).selectors
        except ValueError:
            return ""
        if all(each.optional for each in selectors) or any(map(_reads_up, selectors)):
            return ""
        matchers = ",".join(f"{name}={quote(value)}" for name, value in about.items())
        query = f"max(up{{{matchers}}}) == 0"
        try:
            failing = self._prometheus.query(query)
        except UpstreamError as error:
            return f"whether the target is scraped is not known: {error}"
        return f"its scrape fails: {query}" if failing else ""


def _reads_up(selector: Selector) -> bool:
    return selector.text.partition("{")[0].strip() == "up" or '__name__="up"' in selector.text
